"""modes_auth: who may pull, and registries that try to get hold of credentials. Users: pull/secret (may pull), other/word (known, may not pull).

The good repositories `basic/<layout>` and `bearer/<layout>` serve every good layout behind Basic and Bearer; here are the bad ones.
Modes with "login" are to be asked with pull/secret.
"""
import base64
import json
import time
from urllib.parse import parse_qs
from content import noise, wasm
from world import mode

USERS = {"pull": "secret", "other": "word"}
REFRESH = "refresh-token-of-pull"


def basic_user(connection):
    """The user that the request proves to be, else None."""
    text = connection.request.header("Authorization") or ""
    if not text.lower().startswith("basic "):
        return None
    try:
        user, _, password = base64.b64decode(text[6:]).decode().partition(":")
    except ValueError:
        return None
    return user if USERS.get(user) == password else None


def challenge(connection, text, status=401):
    connection.reply(status, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}, [("WWW-Authenticate", text)] if text else [])
    return True


def bearer_challenge(connection, repo, realm=None, extra=""):
    world = repo.world
    realm = realm if realm is not None else world.url_of(connection, "/token")
    return challenge(connection, f'Bearer realm="{realm}",service="fake",scope="repository:{repo.name}:pull"{extra}')


def guard_basic(repo):
    def on_any(connection):
        user = basic_user(connection)
        if user == "pull":
            return None
        if user:
            return connection.reply(403, {"errors": [{"code": "DENIED", "message": "denied"}]}) or True
        return challenge(connection, 'Basic realm="fake"')
    repo.on_any = on_any


def guard_bearer(repo, scope=None):
    wanted = scope or f"repository:{repo.name}:pull"

    def on_any(connection):
        token = (connection.request.header("Authorization") or "")
        grant = repo.world.tokens.get(token[7:]) if token.lower().startswith("bearer ") else None
        if grant and wanted in grant["scopes"] and grant["expires"] > time.time():
            return None
        return bearer_challenge(connection, repo, extra=',error="invalid_token"' if token else "")
    repo.on_any = on_any


def issue(world, scopes, seconds=300):
    token = f"token-{len(world.tokens)}-{noise(str(len(world.tokens)), 8).hex()}"
    world.tokens[token] = {"scopes": scopes, "expires": time.time() + seconds}
    return token


def token_endpoint(connection, world):
    """GET with Basic or anonymous, POST oauth2 (password, refresh_token). Only pull/secret gets a token for a protected repository; anonymous ones are for `public` names."""
    request = connection.request
    if request.method == "POST":
        form = parse_qs(request.body.decode())
        good = form.get("grant_type") == ["password"] and USERS.get(form.get("username", [""])[0]) == form.get("password", [None])[0] and form["username"] == ["pull"]
        good = good or (form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == [REFRESH])
        if not good:
            return connection.reply(401, {"error": "invalid_grant"})
        scopes = form.get("scope", [""])[0].split()
        return connection.reply(200, {"access_token": issue(world, scopes), "expires_in": 300, "refresh_token": REFRESH}, [("Content-Type", "application/json")])
    query = parse_qs(request.query)
    scopes = [scope for value in query.get("scope", []) for scope in value.split()]
    user = basic_user(connection)
    if request.header("Authorization") and user is None:
        return connection.reply(401, {"errors": [{"code": "UNAUTHORIZED"}]})
    granted = [scope for scope in scopes if user == "pull" or "/public-" in scope]
    return connection.reply(200, {"token": issue(world, granted), "expires_in": 300}, [("Content-Type", "application/json")])


@mode("auth-basic", "ok", "Basic", "login")
def basic(repo):
    repo.raw_image()
    guard_basic(repo)


@mode("auth-hidden", "ok", "Basic; a known user who may not pull gets 404, as where nobody is to learn what is there", "login")
def hidden(repo):
    repo.raw_image()

    def on_any(connection):
        user = basic_user(connection)
        if user == "other":
            return connection.reply(404, {"errors": [{"code": "NAME_UNKNOWN", "message": "repository name not known"}]}) or True
        return None if user == "pull" else challenge(connection, 'Basic realm="fake"')
    repo.on_any = on_any


@mode("auth-bearer", "ok", "Bearer with a token endpoint at the same host and port", "login")
def bearer(repo):
    repo.raw_image()
    guard_bearer(repo)


@mode("auth-basic-anonymous", "unauthorized", "Basic, asked without credentials")
def basic_anonymous(repo):
    basic(repo)


@mode("auth-bearer-anonymous", "unauthorized", "Bearer, asked without credentials: the anonymous token is not enough")
def bearer_anonymous(repo):
    bearer(repo)


@mode("public-bearer", "ok", "Bearer where an anonymous token is enough")
def public(repo):
    bearer(repo)


@mode("auth-loop", "unauthorized", "401 with a Bearer challenge whatever is sent", "login")
def loop(repo):
    repo.raw_image()
    repo.on_any = lambda connection: bearer_challenge(connection, repo)


@mode("auth-basic-loop", "unauthorized", "401 with a Basic challenge whatever is sent", "login")
def basic_loop(repo):
    repo.raw_image()
    repo.on_any = lambda connection: challenge(connection, 'Basic realm="fake"')


@mode("auth-no-challenge", "unauthorized", "401 without WWW-Authenticate", "login")
def no_challenge(repo):
    repo.raw_image()
    repo.on_any = lambda connection: challenge(connection, None)


@mode("auth-unknown-scheme", "unauthorized", "401 that wants Negotiate and Digest only", "login")
def unknown_scheme(repo):
    repo.raw_image()
    repo.on_any = lambda connection: challenge(connection, 'Negotiate, Digest realm="x", nonce="y"')


@mode("auth-garbage-challenge", "unauthorized", "a challenge of noise", "login")
def garbage_challenge(repo):
    repo.raw_image()
    repo.on_any = lambda connection: challenge(connection, 'Bearer realm="unterminated, service=,,, = "')


@mode("auth-double-realm", "unauthorized", "a challenge with two realms", "login")
def double_realm(repo):
    repo.raw_image()
    world = repo.world
    evil = world.url("/secret-sink", world.other_port)
    repo.on_any = lambda connection: challenge(connection, f'Bearer realm="{world.url_of(connection, "/token")}",realm="{evil}",service="fake"')


@mode("auth-insufficient-scope", "ok", "the first token is not enough: insufficient_scope with one more scope", "login")
def insufficient(repo):
    repo.raw_image()
    wanted = f"repository:{repo.name}:pull"

    def on_any(connection):
        token = (connection.request.header("Authorization") or "")[7:]
        if token not in repo.world.tokens:
            return bearer_challenge(connection, repo)
        if repo.count("seen") == 1:
            realm = repo.world.url_of(connection, "/token")
            return challenge(connection, f'Bearer realm="{realm}",service="fake",scope="{wanted} repository:base/layer:pull",error="insufficient_scope"')
        return None
    repo.on_any = on_any


@mode("auth-expiring", "ok", "each token is good for one request only", "login")
def expiring(repo):
    repo.raw_image()
    used = set()

    def on_any(connection):
        token = (connection.request.header("Authorization") or "")[7:]
        if token in repo.world.tokens and token not in used:
            used.add(token)
            return None
        return bearer_challenge(connection, repo, extra=',error="invalid_token"' if token else "")
    repo.on_any = on_any


# ---- realms that want the credentials
def realm_mode(name, help_text, realm, code="unauthorized"):
    @mode(name, code, help_text, "login")
    def build(repo):
        repo.raw_image(wasm(repo.name))
        repo.on_any = lambda connection: bearer_challenge(connection, repo, realm(repo.world))


realm_mode("realm-other-port", "the realm is at another port; Authorization must not arrive there", lambda world: world.url("/secret-sink", world.other_port))
realm_mode("realm-other-name", "the realm is at localhost instead of 127.0.0.1, another port", lambda world: f"http://localhost:{world.other_port}/secret-sink")
realm_mode("realm-metadata", "the realm is the cloud's metadata service", lambda world: "http://169.254.169.254/latest/")
realm_mode("realm-link-local", "the realm is a link-local address", lambda world: "http://[fe80::1]/token")
realm_mode("realm-mapped", "the realm is the metadata service, v4-mapped", lambda world: "http://[::ffff:a9fe:a9fe]/token")
realm_mode("realm-private", "the realm is in a private network", lambda world: "http://10.0.0.1/token")
realm_mode("realm-userinfo", "the realm has user and password in it", lambda world: f"http://user:pass@127.0.0.1:{world.main_port}/token")
realm_mode("realm-file", "the realm is a file", lambda world: "file:///etc/passwd")
realm_mode("realm-relative", "the realm is no absolute URL", lambda world: "/token")
realm_mode("realm-empty", "the realm is empty", lambda world: "")
realm_mode("realm-fragment", "the realm has a fragment", lambda world: world.url("/token#x"))
realm_mode("realm-redirect", "the token endpoint redirects to another port", lambda world: world.url("/token-redirect"), "upstream_error")


# ---- token endpoints that fail
def token_mode(name, code, help_text, answer, needs="login"):
    """answer(connection, world) replies for the token endpoint of this mode."""
    @mode(name, code, help_text, needs)
    def build(repo):
        repo.raw_image()
        path = "/token/" + name
        repo.world.paths[path] = lambda connection: answer(connection, repo.world)
        repo.on_any = lambda connection: bearer_challenge(connection, repo, repo.world.url_of(connection, path))


token_mode("token-500", "upstream_error", "the token endpoint answers 500", lambda connection, world: connection.reply(500, "no"))
token_mode("token-403", "unauthorized", "the token endpoint answers 403", lambda connection, world: connection.reply(403, {"errors": [{"code": "DENIED"}]}))
token_mode("token-429", "rate_limited", "the token endpoint answers 429, Retry-After a day", lambda connection, world: connection.reply(429, "", [("Retry-After", "86400")]))
token_mode("token-garbage", "upstream_error", "the token endpoint answers with noise", lambda connection, world: connection.reply(200, noise("t", 300)))
token_mode("token-html", "upstream_error", "the token endpoint answers with a page", lambda connection, world: connection.reply(200, "<html>sign in</html>", [("Content-Type", "text/html")]))
token_mode("token-empty", "upstream_error", "an empty token", lambda connection, world: connection.reply(200, {"token": "", "expires_in": 300}))
token_mode("token-missing", "upstream_error", "JSON without a token", lambda connection, world: connection.reply(200, {"expires_in": 300}))
token_mode("token-number", "upstream_error", "a token that is a number", lambda connection, world: connection.reply(200, {"token": 17}))
token_mode("token-newline", "upstream_error", "a token with a line end and a header in it", lambda connection, world: connection.reply(200, {"token": "a\r\nX-Injected: 1"}))
token_mode("token-duplicate", "upstream_error", "a token member twice", lambda connection, world: connection.reply(200, '{"token":"a","token":"b"}'))
token_mode("token-huge", "too_large", "a token of one megabyte", lambda connection, world: connection.reply(200, {"token": "t" * (1 << 20)}))


def token_padded(name, code, help_text, size):
    @mode(name, code, help_text, "login")
    def build(repo):
        repo.raw_image()
        path, scope = "/token/" + name, f"repository:{repo.name}:pull"
        repo.world.paths[path] = lambda connection: connection.reply(200, json.dumps({"token": issue(repo.world, [scope])}).ljust(size))

        def on_any(connection):
            grant = repo.world.tokens.get((connection.request.header("Authorization") or "")[7:])
            return None if grant and scope in grant["scopes"] else bearer_challenge(connection, repo, repo.world.url_of(connection, path)) or True
        repo.on_any = on_any


token_padded("token-64kib", "ok", "the answer of the token endpoint has 64 KiB, just at the limit", 64 << 10)
token_padded("token-64kib-over", "too_large", "the answer of the token endpoint has 64 KiB and a byte", (64 << 10) + 1)
token_mode("token-body-huge", "too_large", "a token after a megabyte of blanks", lambda connection, world: connection.reply(200, " " * (1 << 20) + '{"token":"a"}'))
token_mode("token-slow", "upstream_unreachable", "the token endpoint says nothing for ever", lambda connection, world: connection.stall(), "login,slow")
