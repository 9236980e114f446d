#!/usr/bin/env python3
"""registry: a scripted registry and http source, honest or hostile by repository name. Python 3, standard library only.

    registry.py [--tls CERT KEY [--client-ca PEM]] [--port N] [--bind ADDRESS] [--until-eof]
                                                               serve until SIGTERM or SIGINT; with --until-eof also until stdin ends, so that it never outlives a test
    registry.py --list [--json]                                the modes: name, code, needs, what it does
    registry.py --key                                          the public keys that modes sign-… are signed with

On start one line is printed: `ready PORT OTHER [TLS]`. PORT speaks plain HTTP, OTHER is a second origin (redirect target, realm of another
host, sink of stolen credentials), TLS is there with --tls. All three serve the same world.

Repositories (tag v1 unless said otherwise):
    mode/<name>           one mode of the table (`--list`); its `code` is what wasmcached is expected to answer, "ok" = a module, "a|b" = either.
                          needs: login = with user pull, password secret; slow = short pull.progress_timeout and request timeout; tls = over the
                          TLS port; digest = ask by the digest of v1 (see /_repo); key = with the verificationKey of --key; "-" = nothing
    good/<layout>         good-<layout> of the table under a shorter name: raw cncf docker oci layers zstd tar estargz index nested-index … (raw has v2 too)
    basic/<layout>        the same behind Basic; bearer/<layout> behind Bearer with the token endpoint /token (GET and POST oauth2)
                          users: pull/secret may pull, other/word is known but may not; refresh token "refresh-token-of-pull"
    dyn/<anything>        a raw image named by the repository, made on demand; `POST /_set` moves its tags, `POST /_sign` signs them
                          blobs/layer is the largest blob of a repository, whatever its digest
Files: /files/<name>; see sources.py (`/files/` lists them), ETag, If-None-Match, Range.
Steering (on any port, not logged):
    GET  /_log            every request so far: method, path, query, headers, authorization, body, port, tls; /_log?clear=1 empties it
    GET  /_stats          connections accepted per port
    GET  /_repo?repo=R    tags and digests of a repository: {"tags": {...}, "module": sha256 of v1's module where it is a raw layer}
    POST /_reset          forget everything: log, counters, tokens, moved tags, outages
    POST /_set?repo=R&tag=T[&module=NAME]   move tag T of R to a raw image of another module (NAME, default: a new one each time)
    POST /_set?down=1|0                     every new connection and request is refused by RST (except steering); 0 ends it
    POST /_set?rate=N[&after=S][&code=503]  the main port serves N requests in any second, others get 429 (or `code`) with Retry-After S; -1 ends it
    POST /_set?repo=R&status=503|0          every request of R gets this status; 0 ends it
    POST /_sign?repo=R&tag=T&key=NAME&form=simple|bundle   signs what T means with the key of that name; the answer has its PEM
    POST /_set?repo=R&page=1                every request of R is led to a login page, which is 200
"""
import argparse
import json
import ssl
import sys
from urllib.parse import parse_qs

import good  # noqa: F401 (the modes register themselves)
import good_sign
import modes_auth
import modes_layer  # noqa: F401
import modes_manifest  # noqa: F401
import modes_redirect  # noqa: F401
import modes_sign  # noqa: F401
import modes_wire  # noqa: F401
import sources
from content import OCI_INDEX, sha256, wasm
from signing import ec_key, referrers_index, sign_bundle, sign_simple
from wire import Server, wait_for_end
from world import MODES, World


FORMS = {"simple": sign_simple, "bundle": sign_bundle}


def builder(name):
    """How the repository `name` is made, or None."""
    kind, _, rest = name.partition("/")
    if kind == "mode" and rest in MODES:
        return MODES[rest].build
    if kind == "dyn" and rest:
        return lambda repo: repo.raw_image()
    if kind in ("good", "basic", "bearer") and "good-" + rest in MODES:
        def build(repo):
            MODES["good-" + rest].build(repo)
            if kind == "basic":
                modes_auth.guard_basic(repo)
            elif kind == "bearer":
                modes_auth.guard_bearer(repo)
        return build
    return None


def not_found(connection, code):
    connection.reply(404, {"errors": [{"code": code, "message": "unknown"}]}, [("Content-Type", "application/json")])


class Front:
    def __init__(self):
        self.world = World()

    def handle(self, connection):
        request, world = connection.request, self.world
        if request.path.startswith("/_"):
            return self.steer(connection)
        if world.down:
            connection.reset()
        world.note(request)
        if request.port == world.main_port and world.is_over_rate():
            code, after = world.rate["code"], world.rate["after"]
            return connection.reply(code, {"errors": [{"code": "TOOMANYREQUESTS", "message": "slower"}]}, [("Retry-After", after)] if after else [])
        if request.path in world.paths:
            return world.paths[request.path](connection)
        if request.path in ("/v2", "/v2/"):
            return connection.reply(200, {}, [("Docker-Distribution-API-Version", "registry/2.0")])
        if request.path.startswith("/v2/"):
            return self.registry(connection)
        if request.path == "/token":
            return modes_auth.token_endpoint(connection, world)
        if request.path == "/token-redirect":
            return connection.reply(307, headers=[("Location", world.url("/secret-sink", world.other_port))])
        if request.path == "/secret-sink":
            return connection.reply(200, {"token": "stolen", "expires_in": 300})
        if request.path.startswith("/files/"):
            return sources.serve(connection, request.path[7:], world)
        return not_found(connection, "UNSUPPORTED")

    def registry(self, connection):
        for kind in ("manifests", "blobs", "referrers", "tags"):
            name, found, rest = connection.request.path[4:].partition(f"/{kind}/")
            if found:
                break
        build = builder(name) if found else None
        if not build:
            return not_found(connection, "NAME_UNKNOWN")
        repo = self.world.repo(name, build)
        status = self.world.statuses.get(name)
        if status:
            return connection.reply(status, {"errors": [{"code": "UNAVAILABLE", "message": "by /_set"}]})
        if repo.on_any and repo.on_any(connection) is not None:
            return None
        if kind == "manifests":
            return self.manifest(connection, repo, rest)
        if kind == "blobs":
            return self.blob(connection, repo, rest)
        if kind == "tags":
            return connection.reply(200, {"name": name, "tags": sorted(repo.tags)})
        if kind == "referrers" and repo.referrers is not None:
            return connection.reply(200, referrers_index(repo.referrers.get(rest, [])), [("Content-Type", OCI_INDEX)])
        return not_found(connection, "MANIFEST_UNKNOWN")

    def manifest(self, connection, repo, name):
        if connection.request.method not in ("GET", "HEAD"):
            return connection.reply(405)
        digest = repo.tags.get(name, name)
        if digest not in repo.manifests:
            return not_found(connection, "MANIFEST_UNKNOWN")
        if repo.on_manifest and repo.on_manifest(connection, name) is not None:
            return None
        media_type, data = repo.manifests[digest]
        headers = [("Content-Type", media_type), ("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')]
        if connection.request.header("If-None-Match") == f'"{digest}"':
            return connection.reply(304, b"", headers)
        return connection.reply(200, data, headers)

    def blob(self, connection, repo, digest):
        if digest == "layer":            # for tests that do not read manifests
            digest = sha256(repo.first_layer())
        if digest not in repo.blobs:
            return not_found(connection, "BLOB_UNKNOWN")
        if repo.on_blob and repo.on_blob(connection, digest) is not None:
            return None
        return connection.serve_bytes(repo.blobs[digest], [("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')])

    def steer(self, connection):
        request, world = connection.request, self.world
        query = {key: values[0] for key, values in parse_qs(request.query).items()}
        if request.path == "/_log":
            with world.lock:
                log = list(world.log)
                if query.get("clear"):
                    world.log.clear()
            return connection.reply(200, log)
        if request.path == "/_stats":
            return connection.reply(200, {str(server.port): server.connections for server in world.servers})
        if request.path == "/_reset":
            world.reset()
            return connection.reply(200, {})
        name = query.get("repo", "")
        build = builder(name)
        if request.path == "/_repo" and build:
            return connection.reply(200, self.describe(world.repo(name, build)))
        if request.path == "/_set" and "down" in query:
            world.down = query["down"] == "1"
            return connection.reply(200, {})
        if request.path == "/_set" and "rate" in query:
            world.set_rate(int(query["rate"]), query.get("after"), int(query.get("code", 429)))
            return connection.reply(200, {})
        if request.path == "/_set" and build and "status" in query:
            world.statuses[name] = int(query["status"])
            return connection.reply(200, {})
        if request.path == "/_set" and build and "page" in query:
            page = world.path(lambda reader: reader.reply(200, "<html>log in</html>", [("Content-Type", "text/html")]))
            world.repo(name, build).on_any = lambda asker: asker.reply(307, headers=[("Location", page)]) or True
            return connection.reply(200, {})
        if request.path == "/_set" and build and "tag" in query:
            repo = world.repo(name, build)
            module = wasm(query.get("module") or f"{name} moved {repo.count('moved')}")
            repo.raw_image(module, tag=query["tag"])
            return connection.reply(200, self.describe(repo))
        if request.path == "/_sign" and build and query.get("form") in FORMS:
            repo = world.repo(name, build)
            digest = repo.tags[query["tag"]]
            FORMS[query["form"]](repo, {"mediaType": repo.manifests[digest][0], "digest": digest, "size": len(repo.manifests[digest][1])}, ec_key(query["key"]))
            return connection.reply(200, {"key": ec_key(query["key"]).pem, "digest": digest})
        return connection.reply(400, {"error": "see the top of registry.py"})

    @staticmethod
    def describe(repo):
        tags = {}
        for tag, digest in repo.tags.items():
            try:
                layers = json.loads(repo.manifests[digest][1])["layers"]
            except (ValueError, KeyError, TypeError, RecursionError):
                layers = []
            tags[tag] = {"digest": digest, "layers": layers}
        return {"tags": tags, "blobs": {digest: len(data) for digest, data in repo.blobs.items()}}


def list_modes(as_json):
    if as_json:
        json.dump([{"name": mode.name, "code": mode.code, "needs": mode.needs, "help": mode.help} for mode in MODES.values()], sys.stdout, indent=1)
        return
    for mode in MODES.values():
        print(f"{mode.name} {mode.code} {mode.needs} {mode.help}")


def main():
    parser = argparse.ArgumentParser(description="scripted registry; see the top of this file")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--key", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--client-ca", metavar="PEM", help="the TLS port wants a client certificate of this CA")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--until-eof", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        return list_modes(arguments.json)
    if arguments.key:
        return sys.stdout.write(good_sign.KEYS) and None

    front = Front()
    world = front.world
    servers = [Server(front.handle, None, arguments.bind, arguments.port), Server(front.handle, None, arguments.bind)]
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        if arguments.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(arguments.client_ca)
        servers.append(Server(front.handle, context, arguments.bind))
    world.servers = servers
    world.main_port, world.other_port = servers[0].port, servers[1].port
    world.tls_port = servers[2].port if arguments.tls else 0
    print("ready", *(server.port for server in servers), flush=True)

    wait_for_end(arguments.until_eof)
    for server in servers:
        server.stop()
    return None


if __name__ == "__main__":
    main()
