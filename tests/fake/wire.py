"""wire: HTTP/1.1 over raw sockets, so that a mode can break every rule of it."""
import json
import queue
import signal
import socket
import ssl
import struct
import sys
import threading
import time

REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified", 401: "Unauthorized", 404: "Not Found", 416: "Range Not Satisfiable"}


class Closed(Exception):
    """The conversation is over; nothing more may be sent on this connection."""


class Request:
    def __init__(self, method, target, headers, body, port, tls):
        self.method, self.target, self.headers, self.body, self.port, self.tls = method, target, headers, body, port, tls
        self.path, _, self.query = target.partition("?")

    def header(self, name):
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def range_start(self):
        text = self.header("Range") or ""
        if text.startswith("bytes=") and text.endswith("-") and text[6:-1].isdigit():
            return int(text[6:-1])
        return None


class Connection:
    """What a handler has in hand: well-formed answers by reply(), everything else by raw()."""

    def __init__(self, sock, server):
        self.sock, self.server, self.request = sock, server, None

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Closed from error

    def head(self, status, headers=(), version="HTTP/1.1"):
        lines = [f"{version} {status} {REASONS.get(status, 'Status')}"] + [f"{key}: {value}" for key, value in headers]
        self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def reply(self, status, body=b"", headers=(), length=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        elif isinstance(body, str):
            body = body.encode()
        known = {key.lower() for key, _ in headers}
        extra = [] if "content-length" in known or status in (204, 304) else [("Content-Length", len(body) if length is None else length)]
        self.head(status, list(headers) + extra)
        if self.request.method != "HEAD" and body:
            self.raw(body)

    def serve_bytes(self, data, headers=(), ranges=True):
        """A good answer, Range included."""
        start = self.request.range_start() if ranges else None
        if start is None:
            return self.reply(200, data, headers)
        if start >= len(data):
            return self.reply(416, b"", list(headers) + [("Content-Range", f"bytes */{len(data)}")])
        return self.reply(206, data[start:], list(headers) + [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")])

    def chunk(self, data):
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def close(self):
        raise Closed

    def reset(self):
        """RST instead of FIN."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        raise Closed

    def stall(self):
        """Nothing more, until the client has gone or the server ends."""
        self.sock.settimeout(0.2)
        while not self.server.stopping.is_set():
            try:
                if not self.sock.recv(1024):
                    break
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                break
        raise Closed

    def drip(self, data, pause=1.0):
        for byte in data:
            if self.server.stopping.wait(pause):
                raise Closed
            self.raw(bytes([byte]))


class Server:
    """One listening port; `handle(connection)` answers a request, False closes the connection after it."""

    def __init__(self, handle, tls=None, address="127.0.0.1", port=0):
        self.handle, self.tls = handle, tls
        self.stopping = threading.Event()
        self.refusing = False
        self.sock = socket.create_server((address, port), backlog=1024)
        self.port = self.sock.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.stopping.is_set():
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.talk, args=(sock,), daemon=True).start()

    def talk(self, sock):
        try:
            if self.refusing:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.handshake(sock)
            self.requests(Connection(sock, self))
        except (Closed, OSError, ValueError):
            pass
        finally:
            try:
                sock.close()
            except OSError:
                pass

    def handshake(self, sock):
        spare = sock.dup()
        try:
            return self.tls.wrap_socket(sock, server_side=True)
        except OSError:
            self.drain(spare)
            raise
        finally:
            spare.close()

    @staticmethod
    def drain(sock):
        """Unread bytes at close would make a RST, which eats the answer or the TLS alert."""
        try:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(1)
            while sock.recv(65536):
                pass
        except OSError:
            pass

    def requests(self, connection):
        stream = connection.sock.makefile("rb", buffering=65536)
        while not self.stopping.is_set():
            # A ClientHello on the plain port has a line end only by chance; real servers answer it at once, like this.
            line = b"\x16" if stream.peek(1)[:1] == b"\x16" else stream.readline(65536)
            parts = line.decode("latin-1").split()
            if len(parts) != 3:
                if line:
                    connection.raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    self.drain(connection.sock)
                return
            headers = []
            while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
                key, _, value = line.decode("latin-1").partition(":")
                headers.append((key.strip(), value.strip()))
            length = int(next((value for key, value in headers if key.lower() == "content-length"), 0))
            body = stream.read(length) if length else b""
            connection.request = Request(parts[0], parts[1], headers, body, self.port, bool(self.tls))
            if self.handle(connection) is False or self.refusing:
                return

    def stop(self):
        self.stopping.set()
        self.sock.close()


def now_http_date(seconds):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


def wait_for_end(until_eof):
    """Until SIGTERM or SIGINT, or the end of stdin if that is asked for. A SimpleQueue, since what its put() takes no handler can wait for: Event.set() of a handler hangs when the main thread is just within
    wait()."""
    ends = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.put(None))
    if until_eof:
        threading.Thread(target=lambda: (sys.stdin.read(), ends.put(None)), daemon=True).start()
    ends.get()
