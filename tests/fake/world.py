"""world: repositories in memory, the table of modes, and the log of requests."""
import threading
import time
from content import DOCKER_CONFIG, DOCKER_MANIFEST, DOCKER_TAR_GZIP, OCI_CONFIG, OCI_MANIFEST, OCI_TAR, WASME_CONFIG, WASME_LAYER
from content import container_config, descriptor, encode, gz, image, sha256, tar, wasm

MODES = {}          # name -> Mode, in the order of their making


class Mode:
    def __init__(self, name, code, help_text, build, needs):
        self.name, self.code, self.help, self.build, self.needs = name, code, help_text, build, needs


def mode(name, code, help_text, needs="-"):
    """Registers build(repo): it fills the repository `mode/<name>` and may set repo.on_manifest, on_blob, on_any:
    handlers (connection, …) -> None = go on, anything else = answered."""
    def register(build):
        assert name not in MODES, name
        MODES[name] = Mode(name, code, help_text, build, needs)
        return build
    return register


class Repo:
    def __init__(self, name, world):
        self.name, self.world = name, world
        self.tags, self.manifests, self.blobs = {}, {}, {}
        self.on_any = self.on_manifest = self.on_blob = None
        self.referrers = None          # digest -> entries of the referrers API; None = there is no API
        self.counts = {}
        self.lock = threading.Lock()

    def count(self, what):
        """How often `what` has happened, this time included."""
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1
            return self.counts[what]

    def blob(self, data):
        self.blobs[sha256(data)] = data
        return data

    def manifest(self, document, media_type=None, tag=None):
        """document: dict or ready bytes. Gives its descriptor."""
        data = document if isinstance(document, bytes) else encode(document)
        media_type = media_type or (document.get("mediaType") if isinstance(document, dict) else None) or OCI_MANIFEST
        self.manifests[sha256(data)] = (media_type, data)
        if tag:
            self.tags[tag] = sha256(data)
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def layer(self, media_type, data, **more):
        return descriptor(media_type, self.blob(data), **more)

    # the usual images; each gives the manifest's descriptor
    def raw_image(self, module=None, tag="v1", **more):
        module = module if module is not None else wasm(self.name)
        config = self.layer(WASME_CONFIG, encode({"type": "envoy_proxy", "abiVersions": ["v0-2-1"], "config": {"root_ids": []}}))
        return self.manifest(image(config, [self.layer(WASME_LAYER, module)], **more), tag=tag)

    def tar_image(self, layer=None, media_type=OCI_TAR + "+gzip", tag="v1", archive=None):
        """`layer`: the bytes as stored; else gzip of `archive`; else of an honest archive."""
        archive = archive if archive is not None else tar([("plugin.wasm", wasm(self.name))])
        layer = layer if layer is not None else gz(archive)
        docker = media_type == DOCKER_TAR_GZIP
        config = self.layer(DOCKER_CONFIG if docker else OCI_CONFIG, container_config(archive))
        return self.manifest(image(config, [self.layer(media_type, layer)], DOCKER_MANIFEST if docker else OCI_MANIFEST), tag=tag)

    def first_layer(self):
        """Bytes of the largest blob: the layer that a mode does something to."""
        return max(self.blobs.values(), key=len)


class World:
    def __init__(self):
        self.lock = threading.Lock()
        self.main_port = self.other_port = self.tls_port = 0
        self.servers = []
        self.reset()

    def reset(self):
        with self.lock:
            self.repos, self.log, self.tokens, self.files, self.down = {}, [], {}, {}, False
            self.paths = {}          # path -> handler(connection), made by modes
            self.rate = None         # by /_set
            self.statuses = {}       # repo -> status that it answers always, by /_set

    def set_rate(self, number, after, code):
        with self.lock:
            self.rate = None if number < 0 else {"number": number, "after": after, "code": code, "served": []}

    def is_over_rate(self):
        """Is this request one too many of the last second; else it counts."""
        with self.lock:
            if not self.rate:
                return False
            now = time.monotonic()
            self.rate["served"] = [at for at in self.rate["served"] if at > now - 1]
            if len(self.rate["served"]) >= self.rate["number"]:
                return True
            self.rate["served"].append(now)
            return False

    def url(self, path, port=None, scheme="http"):
        return f"{scheme}://127.0.0.1:{port or self.main_port}{path}"

    def repo(self, name, build):
        with self.lock:
            if name not in self.repos:
                repo = Repo(name, self)
                build(repo)
                self.repos[name] = repo
            return self.repos[name]

    def note(self, request):
        entry = {"method": request.method, "path": request.path, "query": request.query, "headers": request.headers, "port": request.port,
                 "tls": request.tls, "authorization": request.header("Authorization"), "body": request.body.decode("latin-1")}
        with self.lock:
            self.log.append(entry)

    def url_of(self, connection, path):
        """`path` at the origin that this connection came to."""
        return self.url(path, connection.request.port, "https" if connection.request.tls else "http")

    def path(self, handler):
        """A new path that `handler` answers."""
        with self.lock:
            path = f"/store/{len(self.paths)}"
            self.paths[path] = handler
        return path

    def answer(self, status, headers):
        return self.path(lambda connection: connection.reply(status, b"", headers))

    def signed(self, data, headers=(), methods=("GET", "HEAD"), strict=False, once=False, broken=False):
        """A path that serves `data` as an object store does: strict = 400 if Authorization comes along; once = 403 from the second time on; broken = half of it only."""
        uses = []

        def handler(connection):
            uses.append(1)
            if connection.request.method not in methods or (once and len(uses) > 1):
                return connection.reply(403, "<Error><Code>AccessDenied</Code></Error>")
            if strict and connection.request.header("Authorization"):
                return connection.reply(400, "<Error><Message>Only one auth mechanism allowed</Message></Error>")
            if broken:
                connection.head(200, [("Content-Length", len(data))])
                connection.raw(data[:len(data) // 2])
                connection.close()
            return connection.serve_bytes(data, headers)
        return self.path(handler) + "?signature=secret-signature"

    def detour(self, url):
        return self.path(lambda connection: connection.reply(307, headers=[("Location", url)]))

    def hops(self, count, data):
        """A path from which `count` redirects lead to `data`."""
        path = self.signed(data)
        for _ in range(count):
            path = self.detour(path)
        return path
