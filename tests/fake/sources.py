"""sources: plain http files under /files/<name>. What wasmcached is expected to make of each stands in FILES."""
from content import COMPONENT, gz, gz_zeros, noise, sha256, tar, wasm, zst

MODULE = wasm("files")
LARGE = wasm("files large", 4 << 20)

# name -> (expected code, bytes)
FILES = {
    "plugin.wasm": ("ok", lambda: MODULE),
    "large.wasm": ("ok", lambda: LARGE),
    "plugin.wasm.gz": ("ok", lambda: gz(MODULE)),
    "plugin.wasm.zst": ("ok", lambda: zst(MODULE)),
    "plugin.tar": ("ok", lambda: tar([("plugin.wasm", MODULE)])),
    "plugin.tar.gz": ("ok", lambda: gz(tar([("plugin.wasm", MODULE)]))),
    "plugin.tar.zst": ("ok", lambda: zst(tar([("plugin.wasm", MODULE)]))),
    "other-name.tar.gz": ("ok", lambda: gz(tar([("dist/filter.wasm", MODULE)]))),
    "nested-2.gz": ("ok", lambda: gz(gz(MODULE))),
    "nested-3.gz": ("ok", lambda: gz(gz(tar([("plugin.wasm", MODULE)])))),
    "nested-4.gz": ("unsupported_image", lambda: gz(gz(gz(gz(MODULE))))),
    "component.wasm": ("not_wasm", lambda: COMPONENT + noise("component", 100)),
    "text.wasm": ("not_wasm", lambda: b"hello, this is text\n" * 10),
    "page.html": ("not_wasm", lambda: b"<html><body>sign in</body></html>"),
    "empty.wasm": ("not_wasm", lambda: b""),
    "bomb.gz": ("too_large", lambda: gz_zeros(300)),
    "coded-gzip.wasm": ("ok", lambda: gz(MODULE)),
    "coded-x-gzip.tar.gz": ("ok", lambda: gz(tar([("plugin.wasm", MODULE)]))),
    "coded-gzip-not": ("ok", lambda: MODULE),
    "coded-gzip-bomb": ("too_large", lambda: gz_zeros(300)),
    "coded-br.wasm": ("upstream_error", lambda: MODULE),
    "truncated.gz": ("upstream_error", lambda: gz(MODULE)[:40]),
    "noise.bin": ("not_wasm", lambda: noise("noise", 5000)),
    "private.wasm": ("unauthorized", lambda: MODULE),
}
CACHE = {}


def content(name, world):
    if name in world.files:
        return world.files[name]
    if name not in CACHE:
        CACHE[name] = FILES[name][1]()
    return CACHE[name]


def serve(connection, name, world):
    """`/files/` lists; PUT /files/<name> replaces a file until /_reset (new ETag); status-<n> answers that status; redirect/<name> leads to the file at the other port."""
    request = connection.request
    if not name:
        return connection.reply(200, {key: {"code": code, "sha256": sha256(content(key, world)), "module": sha256(MODULE)} for key, (code, _) in FILES.items()})
    if request.method == "PUT":
        world.files[name] = request.body
        return connection.reply(201)
    if name.startswith("status-"):
        return connection.reply(int(name[7:]), "by name\n")
    if name.startswith("redirect/"):
        return connection.reply(302, headers=[("Location", world.url("/files/" + name[9:], world.other_port))])
    if name.startswith("broken/"):
        return broken(connection, name[7:], world)
    if name not in FILES and name not in world.files:
        return connection.reply(404, "<html>no such file</html>", [("Content-Type", "text/html")])
    if name == "private.wasm":
        return connection.reply(401, "", [("WWW-Authenticate", 'Basic realm="files"')])
    data = content(name, world)
    etag = f'"{sha256(data)[7:23]}"'
    headers = [("Content-Type", "application/wasm"), ("ETag", etag), ("Accept-Ranges", "bytes")]
    if name.startswith("coded-"):          # as Apache says of a .gz, and object stores of what was uploaded so
        headers.append(("Content-Encoding", "x-gzip" if "x-gzip" in name else name[6:].split(".")[0].split("-")[0]))
    if request.header("If-None-Match") == etag:
        return connection.reply(304, b"", headers)
    if request.header("If-Range") not in (None, etag):
        return connection.reply(200, data, headers)
    return connection.serve_bytes(data, headers)


def broken(connection, name, world):
    """The first half of the file, then the end; a Range is served."""
    data = content(name, world)
    if connection.request.range_start() is None and connection.request.method == "GET":
        connection.head(200, [("Content-Length", len(data)), ("ETag", '"broken"')])
        connection.raw(data[:len(data) // 2])
        connection.close()
    return connection.serve_bytes(data, [("ETag", '"broken"')])
