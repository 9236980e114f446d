"""modes_redirect: where a layer's URL may lead."""
from content import wasm
from world import mode
from modes_wire import layer_mode


def location(connection, url, status=307):
    connection.reply(status, headers=[("Location", url)])
    return True


@layer_mode("redirect-loop", "upstream_error", "redirected to itself")
def loop(connection, data, repo):
    location(connection, connection.request.target)


@layer_mode("redirect-many", "upstream_error", "a chain of 11 redirects")
def many(connection, data, repo):
    location(connection, repo.world.hops(11, data))


@layer_mode("redirect-ten", "ok", "a chain of 10 redirects, just at the limit")
def ten(connection, data, repo):
    location(connection, repo.world.hops(9, data))


@layer_mode("redirect-no-location", "upstream_error", "307 without Location")
def no_location(connection, data, repo):
    connection.reply(307)


def plain(name, code, help_text, url, needs="-"):
    @layer_mode(name, code, help_text, needs)
    def handler(connection, data, repo):
        location(connection, url)


plain("redirect-ftp", "upstream_error", "to ftp://", "ftp://127.0.0.1/layer")
plain("redirect-file", "upstream_error", "to file:///etc/passwd", "file:///etc/passwd")
plain("redirect-garbage", "upstream_error", "to no URL at all", "http://[::zz]:99999/")
plain("redirect-userinfo", "upstream_error", "to a URL with user and password", "http://user:pass@127.0.0.1/layer")
plain("redirect-metadata", "denied", "to the cloud's metadata service", "http://169.254.169.254/latest/meta-data/")
plain("redirect-metadata-mapped", "denied", "the same as an IPv4-mapped IPv6 address", "http://[::ffff:169.254.169.254]/latest/")
plain("redirect-metadata-decimal", "denied", "the same as one decimal number", "http://2852039166/latest/")
plain("redirect-metadata-octal", "denied", "the same in octal", "http://0251.0376.0251.0376/latest/")
plain("redirect-link-local", "denied", "to an IPv6 link-local address", "http://[fe80::1]/layer")
plain("redirect-unspecified", "denied", "to 0.0.0.0", "http://0.0.0.0/layer")
plain("redirect-multicast", "denied", "to a multicast address", "http://224.0.0.1/layer")
plain("redirect-refused", "upstream_unreachable", "to a port where nobody listens", "http://127.0.0.1:1/layer")


@layer_mode("redirect-to-http", "denied", "from https to http (only over the TLS port)", "tls")
def to_http(connection, data, repo):
    path = repo.world.signed(data)
    location(connection, repo.world.url(path, repo.world.other_port))


@layer_mode("redirect-relative", "ok", "to a path relative to the request's")
def relative(connection, data, repo):
    location(connection, repo.world.signed(data))


def cross(name, status):
    @layer_mode(name, "ok", f"{status} to another port, as to an object store; Authorization must not arrive there")
    def handler(connection, data, repo):
        location(connection, repo.world.url(repo.world.signed(data, strict=True), repo.world.other_port), status)


cross("redirect-cross-host", 307)
cross("redirect-cross-301", 301)
cross("redirect-cross-302", 302)
cross("redirect-cross-303", 303)
cross("redirect-cross-308", 308)


@layer_mode("redirect-back", "ok", "to another port and back again; Authorization may be there again")
def back(connection, data, repo):
    world = repo.world
    home = world.signed(data)
    location(connection, world.url(world.detour(world.url(home)), world.other_port))


@layer_mode("redirect-expires", "ok", "the target's URL is good once and breaks off; a resume must ask the registry anew")
def expires(connection, data, repo):
    world = repo.world
    if repo.count("layer") == 1:
        path = world.signed(data, once=True, broken=True)
    else:
        path = world.signed(data, once=True)
    location(connection, world.url(path, world.other_port))


@layer_mode("redirect-401", "unauthorized", "the target asks for credentials: it must not get the registry's")
def target_401(connection, data, repo):
    world = repo.world
    location(connection, world.url(world.answer(401, [("WWW-Authenticate", 'Basic realm="bucket"')]), world.other_port))


@mode("redirect-manifest", "ok", "the manifest is redirected too")
def manifest(repo):
    repo.raw_image(wasm(repo.name))

    def on_manifest(connection, name):
        media_type, data = repo.manifests[repo.tags.get(name, name)]
        return location(connection, repo.world.signed(data, [("Content-Type", media_type)]))
    repo.on_manifest = on_manifest
