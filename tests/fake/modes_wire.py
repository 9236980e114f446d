"""modes_wire: what can go wrong between a request and the end of its answer. Most act on the layer's blob, the largest of the repository."""
from content import OCI_MANIFEST, noise, wasm
from wire import now_http_date
from world import mode

SLOW = "slow"        # wants a short pull.progress_timeout (or request timeout)
BIG = 300_000        # of modules in modes that break in the middle


def layer_mode(name, code, help_text, needs="-", size=BIG):
    """The handler gets (connection, data, repo) for GETs of the layer only."""
    def register(handler):
        @mode(name, code, help_text, needs)
        def build(repo):
            repo.raw_image(wasm(repo.name, size))

            def on_blob(connection, digest):
                data = repo.first_layer()
                if repo.blobs.get(digest) is data and connection.request.method == "GET":
                    return handler(connection, data, repo) or True
                return None
            repo.on_blob = on_blob
        return handler
    return register


def manifest_mode(name, code, help_text, needs="-"):
    """The handler gets (connection, media_type, data, repo) for every manifest request."""
    def register(handler):
        @mode(name, code, help_text, needs)
        def build(repo):
            repo.raw_image()

            def on_manifest(connection, name):
                media_type, data = repo.manifests[repo.tags.get(name, name)]
                return handler(connection, media_type, data, repo) or True
            repo.on_manifest = on_manifest
        return handler
    return register


def served(connection, media_type, data):
    connection.reply(200, data, [("Content-Type", media_type)])


# ---- lengths and digests
@layer_mode("wrong-digest", "checksum_mismatch", "a layer of the right length with one byte changed")
def wrong_digest(connection, data, repo):
    connection.serve_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@layer_mode("short-body", "checksum_mismatch", "an honest Content-Length, smaller than the descriptor's size")
def short_body(connection, data, repo):
    connection.serve_bytes(data[:-100])


@layer_mode("long-body", "checksum_mismatch", "an honest Content-Length, larger than the descriptor's size")
def long_body(connection, data, repo):
    connection.serve_bytes(data + b"more")


@layer_mode("long-chunked", "checksum_mismatch", "more bytes than the descriptor's size, chunked, so that no header tells")
def long_chunked(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    connection.chunk(data)
    for _ in range(64):
        connection.chunk(bytes(65536))
    connection.raw(b"0\r\n\r\n")


@layer_mode("short-chunked", "checksum_mismatch", "fewer bytes than the descriptor's size, chunked and properly ended")
def short_chunked(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    connection.chunk(data[:1000])
    connection.raw(b"0\r\n\r\n")


@layer_mode("endless-chunked", "checksum_mismatch", "zeros without end, chunked")
def endless(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    while True:
        connection.chunk(bytes(1 << 20))


@layer_mode("lying-length", "upstream_unreachable", "full Content-Length, but the connection ends in the middle, every time; Range ignored")
def lying_length(connection, data, repo):
    connection.reply(200, data[:len(data) // 2], length=len(data))
    connection.close()


@layer_mode("huge-length", "checksum_mismatch", "Content-Length of 1 EiB on a small layer")
def huge_length(connection, data, repo):
    connection.reply(200, data, length=1 << 60)


@layer_mode("negative-length", "upstream_error", "Content-Length: -1")
def negative_length(connection, data, repo):
    connection.reply(200, data, length=-1)
    connection.close()


@layer_mode("two-lengths", "upstream_error", "two Content-Length headers that differ")
def two_lengths(connection, data, repo):
    connection.reply(200, data, [("Content-Length", len(data)), ("Content-Length", 10)])


# ---- time
@layer_mode("stalled-after-head", "upstream_unreachable", "headers, then nothing for ever", SLOW)
def stalled_after_head(connection, data, repo):
    connection.head(200, [("Content-Length", len(data))])
    connection.stall()


@layer_mode("stalled-mid-body", "upstream_unreachable", "half of the body, then nothing for ever; Range served the same way", SLOW)
def stalled_mid_body(connection, data, repo):
    connection.head(200, [("Content-Length", len(data))])
    connection.raw(data[:len(data) // 2])
    connection.stall()


@layer_mode("stalled-before-head", "upstream_unreachable", "takes the request and says nothing for ever", SLOW)
def stalled_before_head(connection, data, repo):
    connection.stall()


@manifest_mode("stalled-manifest", "upstream_unreachable", "the manifest stops in the middle for ever", SLOW)
def stalled_manifest(connection, media_type, data, repo):
    connection.head(200, [("Content-Length", len(data)), ("Content-Type", media_type)])
    if connection.request.method == "HEAD":
        return
    connection.raw(data[:20])
    connection.stall()


@layer_mode("drip", "timeout", "one byte per second: progress, but never done", SLOW)
def drip(connection, data, repo):
    connection.head(200, [("Content-Length", len(data))])
    connection.drip(data)


@layer_mode("drip-head", "upstream_unreachable", "one byte of the head per second", SLOW)
def drip_head(connection, data, repo):
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000)


# ---- broken HTTP
@layer_mode("reset", "upstream_unreachable", "RST instead of an answer")
def reset(connection, data, repo):
    connection.reset()


@layer_mode("reset-mid-body", "upstream_unreachable", "RST in the middle of the body, every time")
def reset_mid_body(connection, data, repo):
    connection.head(200, [("Content-Length", len(data))])
    connection.raw(data[:1000])
    connection.reset()


@layer_mode("empty-reply", "upstream_unreachable", "the connection is closed without an answer")
def empty_reply(connection, data, repo):
    connection.close()


@layer_mode("http09", "upstream_error", "a body without any head, as HTTP/0.9 had it")
def http09(connection, data, repo):
    connection.raw(data)
    connection.close()


@layer_mode("garbage-head", "upstream_error", "a status line and headers of noise")
def garbage_head(connection, data, repo):
    connection.raw(b"HTTP/1.1 2x0 \xff\xfe\r\n\xff\xff\xff\r\n: novalue\r\n\r\n" + noise("g", 500))
    connection.close()


@layer_mode("half-head", "upstream_error", "the connection ends within the head")
def half_head(connection, data, repo):
    connection.raw(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.close()


@layer_mode("bad-chunking", "upstream_error", "chunk sizes that are no numbers")
def bad_chunking(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    connection.raw(b"zz\r\n" + data[:100] + b"\r\n")
    connection.close()


@layer_mode("huge-chunk", "upstream_error", "a chunk size beyond 64 bits")
def huge_chunk(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    connection.raw(b"ffffffffffffffffff\r\n" + data[:100])
    connection.close()


@layer_mode("chunked-no-end", "upstream_unreachable", "chunked without the last chunk, then closed, every time")
def chunked_no_end(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked")])
    connection.chunk(data[:len(data) // 2])
    connection.close()


@layer_mode("huge-headers", "upstream_error", "one megabyte of response headers")
def huge_headers(connection, data, repo):
    connection.reply(200, data, [(f"X-Filler-{at}", "f" * 8000) for at in range(128)])


@layer_mode("huge-header-line", "upstream_error", "one header line of a megabyte")
def huge_header_line(connection, data, repo):
    connection.reply(200, data, [("X-Filler", "f" * (1 << 20))])


@layer_mode("many-headers", "upstream_error", "5000 small response headers")
def many_headers(connection, data, repo):
    connection.reply(200, data, [(f"X{at}", "v") for at in range(5000)])


@layer_mode("header-nul", "upstream_error", "a NUL byte in a header")
def header_nul(connection, data, repo):
    connection.reply(200, data, [("X-Nul", "a\0b")])


@layer_mode("many-interim", "upstream_error", "100 Continue without end")
def many_interim(connection, data, repo):
    for _ in range(20000):
        connection.raw(b"HTTP/1.1 100 Continue\r\nX-Filler: " + b"f" * 100 + b"\r\n\r\n")
    connection.reply(200, data)


@layer_mode("content-encoding", "upstream_error", "Content-Encoding: gzip, a bomb of zeros")
def content_encoding(connection, data, repo):
    from content import gz_zeros
    connection.reply(200, gz_zeros(16), [("Content-Encoding", "gzip")])


@layer_mode("transfer-encoding", "upstream_error", "Transfer-Encoding: gzip, chunked, a bomb")
def transfer_encoding(connection, data, repo):
    from content import gz_zeros
    connection.head(200, [("Transfer-Encoding", "gzip, chunked")])
    connection.chunk(gz_zeros(16))
    connection.raw(b"0\r\n\r\n")


@layer_mode("trailers", "ok", "chunked with trailers, which say nothing")
def trailers(connection, data, repo):
    connection.head(200, [("Transfer-Encoding", "chunked"), ("Trailer", "X-After")])
    connection.chunk(data)
    connection.raw(b"0\r\nX-After: 1\r\nContent-Length: 3\r\n\r\n")


@layer_mode("http10", "ok", "HTTP/1.0, the body ends with the connection")
def http10(connection, data, repo):
    connection.head(200, [("Content-Type", "application/octet-stream")], "HTTP/1.0")
    connection.raw(data)
    connection.close()


@layer_mode("interim", "ok", "100 and 103 before the answer")
def interim(connection, data, repo):
    connection.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    connection.serve_bytes(data)


# ---- Range
def broken_once(connection, data, repo):
    """True if this request was answered by half a body."""
    if repo.count("layer") > 1:
        return False
    connection.head(200, [("Content-Length", len(data)), ("ETag", '"v1"'), ("Accept-Ranges", "bytes")])
    connection.raw(data[:len(data) // 2])
    connection.close()
    return True


@layer_mode("resume", "ok", "breaks once in the middle, then serves the Range")
def resume(connection, data, repo):
    broken_once(connection, data, repo)
    connection.serve_bytes(data, [("ETag", '"v1"')])


@layer_mode("resume-ignored", "ok", "breaks once, then answers the Range with 200 and everything")
def resume_ignored(connection, data, repo):
    broken_once(connection, data, repo)
    connection.serve_bytes(data, [("ETag", '"v1"')], ranges=False)


@layer_mode("resume-416", "ok", "breaks once, then 416 although the Range is valid (as ggcr's registry)")
def resume_416(connection, data, repo):
    broken_once(connection, data, repo)
    if connection.request.range_start() is not None:
        return connection.reply(416, b"")
    return connection.serve_bytes(data)


@layer_mode("resume-416-lying", "ok", "breaks once, then 416 with the full blob's Content-Length and 33 bytes (as distribution 2.8.2)")
def resume_416_lying(connection, data, repo):
    broken_once(connection, data, repo)
    if connection.request.range_start() is not None:
        connection.reply(416, b"x" * 33, length=len(data))
        return connection.close()
    return connection.serve_bytes(data)


def lying_range(name, help_text, content_range, code="ok"):
    @layer_mode(name, code, help_text)
    def handler(connection, data, repo):
        broken_once(connection, data, repo)
        start = connection.request.range_start()
        if start is None:
            return connection.serve_bytes(data)
        return connection.reply(206, data[start:], [("Content-Range", content_range(start, len(data)))] if content_range else [])


lying_range("range-off-by-one", "breaks once, then a Content-Range that starts one byte late", lambda start, size: f"bytes {start + 1}-{size - 1}/{size}")
lying_range("range-other-total", "breaks once, then a Content-Range of another total", lambda start, size: f"bytes {start}-{size - 1}/{size + 1}")
lying_range("range-garbage", "breaks once, then a Content-Range of noise", lambda start, size: "bytes all")
lying_range("range-missing", "breaks once, then 206 without Content-Range", None)
lying_range("range-star", "breaks once, then Content-Range with unknown total", lambda start, size: f"bytes {start}-{size - 1}/*")


@layer_mode("range-other-content", "checksum_mismatch", "breaks once, then the Range of other bytes")
def range_other(connection, data, repo):
    broken_once(connection, data, repo)
    connection.serve_bytes(noise("other", len(data)), [("ETag", '"v1"')])


@layer_mode("range-unasked", "upstream_error", "206 to a request without Range")
def range_unasked(connection, data, repo):
    connection.reply(206, data[10:], [("Content-Range", f"bytes 10-{len(data) - 1}/{len(data)}")])


# ---- statuses
def failing(name, help_text, code, statuses, headers=(), needs="-"):
    """The manifest answers these statuses in turn, the last one for ever; 200 serves it."""
    @manifest_mode(name, code, help_text, needs)
    def handler(connection, media_type, data, repo):
        status = statuses[min(repo.count("manifest"), len(statuses)) - 1]
        if status == 200:
            return served(connection, media_type, data)
        rows = [(key, value() if callable(value) else value) for key, value in headers]
        return connection.reply(status, {"errors": [{"code": "TOOMANYREQUESTS" if status == 429 else "UNAVAILABLE", "message": f"answer {status}"}]}, rows)


failing("status-500-once", "500, then good", "ok", [500, 200])
failing("status-503-twice", "503 twice, then good", "ok", [503, 503, 200])
failing("status-503", "503 for ever", "upstream_error", [503])
failing("status-500", "500 for ever", "upstream_error", [500])
failing("status-404", "404 for ever", "not_found", [404])
failing("status-418", "418: a status that nobody expects", "upstream_error", [418])
failing("status-204", "204: success without a manifest", "upstream_error", [204])
failing("status-429", "429 without Retry-After", "rate_limited", [429])
failing("status-429-once", "429 with Retry-After: 1, then good", "ok", [429, 200], [("Retry-After", "1")])
failing("status-429-date", "429 with a Retry-After date two seconds ahead, then good", "ok", [429, 200], [("Retry-After", lambda: now_http_date(2))])
failing("status-429-huge", "429 with Retry-After of a day: told at once, not waited for", "rate_limited", [429], [("Retry-After", "86400")])
failing("status-429-garbage", "429 with a Retry-After of noise", "rate_limited", [429], [("Retry-After", "soon, -1")])


# ---- the shapes of error bodies
def error_body(name, help_text, body, content_type, status=404, code="not_found"):
    @manifest_mode(name, code, help_text)
    def handler(connection, media_type, data, repo):
        return connection.reply(status, body, [("Content-Type", content_type)])


error_body("error-errors", "404 with the specification's errors[]",
           b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"v1"}}]}', "application/json")
error_body("error-bare", "404 with a bare object", b'{"details":"no such thing","code":"UNKNOWN"}', "application/json")
error_body("error-html", "404 with a page of HTML", b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")
error_body("error-control", "500 with a megabyte of text full of control characters",
           (b"\x1b[31mred\x07\r\nfake=log line \xff\x00" * 40000)[:1 << 20], "text/plain", 500, "upstream_error")
error_body("error-denied", "403 DENIED", b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}', "application/json", 403, "unauthorized")


# ---- HEAD
@mode("head-405", "ok", "HEAD of a manifest is answered 405; GET is good")
def head_405(repo):
    repo.raw_image()
    repo.on_manifest = lambda connection, name: connection.reply(405) or True if connection.request.method == "HEAD" else None


@mode("head-redirect-403", "ok", "HEAD is redirected to where only GET is allowed (pre-signed URL); GET is good")
def head_redirect(repo):
    repo.raw_image()

    def on_manifest(connection, name):
        media_type, data = repo.manifests[repo.tags.get(name, name)]
        path = repo.world.signed(data, [("Content-Type", media_type)], methods=("GET",))
        connection.reply(307, headers=[("Location", repo.world.url(path, repo.world.other_port))])
        return True
    repo.on_manifest = on_manifest


@mode("head-moves-get-fails", "upstream_error", "HEAD tells a new digest each time, GET fails with 500")
def head_moves(repo):
    repo.raw_image()

    def on_manifest(connection, name):
        if connection.request.method == "HEAD":
            fake = f"sha256:{repo.count('head'):064x}"
            return connection.reply(200, headers=[("Content-Type", OCI_MANIFEST), ("Docker-Content-Digest", fake)], length=100) or True
        return connection.reply(500) or True
    repo.on_manifest = on_manifest


@mode("lying-digest-header", "ok", "Docker-Content-Digest of other content on GET: the header is not to be trusted")
def lying_digest(repo):
    repo.raw_image()

    def on_manifest(connection, name):
        media_type, data = repo.manifests[repo.tags.get(name, name)]
        return connection.reply(200, data, [("Content-Type", media_type), ("Docker-Content-Digest", "sha256:" + "0" * 64)]) or True
    repo.on_manifest = on_manifest


@mode("tag-other-digest", "checksum_mismatch", "manifests/sha256:… answers with another manifest (ask for @sha256 of tag v1 in /_repo)", "digest")
def tag_other(repo):
    repo.raw_image()
    other = repo.raw_image(wasm("other"), tag=None)

    def on_manifest(connection, name):
        if name.startswith("sha256:"):
            return served(connection, *repo.manifests[other["digest"]]) or True
        return None
    repo.on_manifest = on_manifest
