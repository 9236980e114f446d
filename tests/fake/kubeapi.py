#!/usr/bin/env python3
"""kubeapi: a small Kubernetes API server in memory, honest until told otherwise. Python 3, standard library only.

    kubeapi.py [--tls CERT KEY [--client-ca PEM]] [--port N] [--until-eof]

On start one line is printed: `ready PORT 0 [TLS]`; both ports serve the same world. It knows list (limit, continue), watch (bookmarks, sendInitialEvents, timeoutSeconds), get of any
resource, POST of TokenReviews and Events, PATCH of Events. What it answers follows a real kube-apiserver 1.37.

Steering (never logged, never refused; GET or POST, everything in the query):
    /_log[?clear=1]                        requests so far: method, target, authorization, what is accepted, body
    /_put?path=P&json=OBJECT[&pad=N][&depth=N][&count=N]     makes or replaces; P is the collection (/api/v1/secrets); pad and depth blow spec.pad up; count makes name-0 …
    /_delete?path=P&namespace=&name=
    /_bookmark                             every open watch gets one
    /_close                                every open watch ends in the middle of nothing (FIN)
    /_expire                               all versions so far are too old
    /_restore                              versions begin again below all that were given (a store restored)
    /_token?token=T&json=STATUS            what a TokenReview of T answers as status
    /_set?streaming=yes|no|ignored|etcd34  yes; 422; older than 1.27: the parameter is unknown; the ERROR event of an old etcd
    /_set?pretty=1                         JSON with line ends and blanks, also inside of a watch's events (what a real server does for some User-Agents)
    /_set?chunk=N                          watch lines and bodies are sent in pieces of N bytes
    /_early?path=P&json=EVENTS             these come in every streaming list of P from now on, behind what is there and before the bookmark that ends the list
    /_set?accept=T[,T…]                    bearer tokens that are known; others get 401
    /_fault?match=TEXT&do=MODE[&count=N][&arg=A]      the next N (1) requests whose "METHOD target" holds TEXT get MODE:
        status (arg: code)  forbidden  absent  plain404  toomany (arg: retryAfterSeconds)  unavailable (the same, 503)  toolarge  gone  gone-event  error-event (arg: code)
        garbage  html  json-as-text  status-200  truncate  huge-line (arg: bytes)  hang  silent  reset  empty-watch  line (arg: the line)  other-object  no-version
"""
import argparse
import json
import re
import ssl
import threading
import time
from urllib.parse import parse_qs, unquote

from wire import Closed, Server, wait_for_end

FIRST = 1000
KINDS = {"secrets": "Secret", "pods": "Pod", "wasmplugins": "WasmPlugin", "trafficextensions": "TrafficExtension", "events": "Event"}
MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
JSON = [("Content-Type", "application/json")]


def status(code, reason, message, **details):
    found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return {**found, "details": details} if details else found


def expired(version, oldest):
    return status(410, "Expired", f"too old resource version: {version} ({oldest})")


class Target:
    """/api/v1/namespaces/NS/secrets/NAME, /apis/GROUP/V/wasmplugins …"""

    def __init__(self, path):
        parts = [unquote(part) for part in path.strip("/").split("/")]
        head = 2 if parts[0] == "api" else 3
        self.good = parts[0] in ("api", "apis") and len(parts) > head
        rest = parts[head:]
        self.namespace = None
        if len(rest) > 2 and rest[0] == "namespaces":
            self.namespace, rest = rest[1], rest[2:]
        self.plural = rest[0] if rest else ""
        self.collection = "/" + "/".join(parts[:head] + [self.plural])
        self.name = rest[1] if len(rest) > 1 else None


class World:
    def __init__(self):
        self.changed = threading.Condition()
        self.version, self.oldest = FIRST, FIRST
        self.objects, self.history = {}, []          # collection -> {(namespace, name): object}; (version, type, collection, object)
        self.log, self.faults, self.tokens = [], [], {}
        self.streaming, self.chunk, self.accept, self.indent = "yes", 0, None, None
        self.bookmarks = self.closes = 0
        self.early = {}                              # collection -> events

    def change(self, kind, collection, key, thing):
        with self.changed:
            self.version += 1
            held = self.objects.setdefault(collection, {})
            if kind == "DELETED":
                thing = held.pop(key)
            elif key in held:
                kind = "MODIFIED"
                thing["metadata"].setdefault("uid", held[key]["metadata"]["uid"])
            thing = json.loads(json.dumps(thing))
            thing["metadata"].setdefault("uid", f"uid-{self.version}")
            thing["metadata"]["resourceVersion"] = str(self.version)
            if kind != "DELETED":
                held[key] = thing
            self.history.append((self.version, kind, collection, thing))
            self.changed.notify_all()
            return thing

    def take_fault(self, text):
        with self.changed:
            for fault in self.faults:
                if fault["match"] in text and fault["count"] > 0:
                    fault["count"] -= 1
                    return fault
        return None

    def select(self, target, query):
        """A function that tells whether an object is asked for."""
        fields = [part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part]
        labels = [part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part]

        def is_wanted(thing):
            if target.namespace and thing["metadata"].get("namespace", "") != target.namespace:
                return False
            for path, value in fields:
                found = thing
                for step in path.split("."):
                    found = found.get(step, {}) if isinstance(found, dict) else {}
                if found != value:
                    return False
            return all(thing["metadata"].get("labels", {}).get(name) == value for name, value in labels)
        return is_wanted


class Api:
    def __init__(self):
        self.world = World()

    def handle(self, connection):
        request, world = connection.request, self.world
        query = {key: values[0] for key, values in parse_qs(request.query, keep_blank_values=True).items()}
        if request.path.startswith("/_"):
            return self.steer(connection, query)
        authorization = request.header("Authorization")
        with world.changed:
            world.log.append({"method": request.method, "target": request.target, "authorization": authorization, "host": request.header("Host"),
                              "type": request.header("Content-Type"), "accept": request.header("Accept"), "encoding": request.header("Accept-Encoding"), "body": request.body.decode("utf-8", "replace")})
        if world.accept is not None and (authorization or "").removeprefix("Bearer ") not in world.accept:
            return connection.reply(401, status(401, "Unauthorized", "Unauthorized"), JSON)
        fault = world.take_fault(f"{request.method} {request.target}")
        if fault and self.fail(connection, fault) is not False:
            return None
        target = Target(request.path)
        if not target.good:
            return connection.reply(404, "404 page not found\n", [("Content-Type", "text/plain")])
        if request.method == "POST" and target.plural == "tokenreviews":
            return self.review(connection)
        if target.plural == "events" and request.method in ("POST", "PATCH"):
            return self.event(connection, target)
        if target.name:
            return self.get(connection, target)
        if query.get("watch") in ("1", "true"):
            return self.watch(connection, target, query)
        return self.list(connection, target, query)

    # ---- faults
    def fail(self, connection, fault):
        mode, arg = fault["do"], fault.get("arg", "")
        plain = {
            "status": lambda: (int(arg), status(int(arg), "Failed", "scripted")),
            "forbidden": lambda: (403, status(403, "Forbidden", "User \"system:serviceaccount:x:y\" cannot do that")),
            "absent": lambda: (404, status(404, "NotFound", "not found")),
            "toomany": lambda: (429, status(429, "TooManyRequests", "storage is (re)initializing", retryAfterSeconds=int(arg or 1))),
            "unavailable": lambda: (503, status(503, "ServiceUnavailable", "busy", retryAfterSeconds=int(arg or 1))),
            "toolarge": lambda: (504, status(504, "Timeout", "Too large resource version: 9, current: 1", retryAfterSeconds=1,
                                             causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}])),
            "gone": lambda: (410, expired(1, self.world.oldest)),
            "status-200": lambda: (200, status(500, "InternalError", "in a 200")),
            "other-object": lambda: (200, {"kind": "Secret", "metadata": {"namespace": "elsewhere", "name": "other", "uid": "u", "resourceVersion": "1"}}),
            "no-version": lambda: (200, {"kind": "XList", "metadata": {}, "items": []}),
        }
        if mode in plain:
            code, body = plain[mode]()
            return connection.reply(code, body, JSON)
        if mode == "plain404":
            return connection.reply(404, "404 page not found\n", [("Content-Type", "text/plain")])
        if mode == "garbage":
            return connection.reply(200, "}{ this is no JSON", JSON)
        if mode == "html":
            return connection.reply(200, "<html>log in, please</html>", [("Content-Type", "text/html")])
        if mode == "json-as-text":
            return connection.reply(200, '{"kind":"XList","metadata":{"resourceVersion":"1"},"items":[]}', [("Content-Type", "text/plain")])
        if mode == "truncate":
            return connection.reply(200, '{"kind":"XList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"half"', JSON)
        if mode == "reset":
            return connection.reset()
        if mode == "hang":
            return connection.stall()
        connection.head(200, JSON + [("Transfer-Encoding", "chunked")])
        lines = {
            "gone-event": lambda: json.dumps({"type": "ERROR", "object": expired(1, self.world.oldest)}) + "\n",
            "error-event": lambda: json.dumps({"type": "ERROR", "object": status(int(arg or 500), "InternalError", "scripted")}) + "\n",
            "huge-line": lambda: '{"type":"ADDED","object":{"metadata":{"name":"huge"},"x":"' + "x" * int(arg) + '"}}\n',
            "line": lambda: arg + "\n",
            "empty-watch": lambda: "",
        }
        if mode == "silent":
            return connection.stall()
        text = lines[mode]()
        if text:
            connection.chunk(text.encode())
        connection.raw(b"0\r\n\r\n")
        return None

    # ---- reading
    def get(self, connection, target):
        with self.world.changed:
            thing = self.world.objects.get(target.collection, {}).get((target.namespace or "", target.name))
        if not thing:
            return connection.reply(404, status(404, "NotFound", f'{target.plural} "{target.name}" not found'), JSON)
        return connection.reply(200, {"kind": KINDS.get(target.plural, "Thing"), "apiVersion": "v1", **thing}, JSON)

    def list(self, connection, target, query):
        world = self.world
        with world.changed:
            wanted = world.select(target, query)
            things = [thing for _, thing in sorted(world.objects.get(target.collection, {}).items()) if wanted(thing)]
            version = world.version
        asked = query.get("resourceVersion", "")
        if query.get("continue") and asked:
            return connection.reply(400, status(400, "BadRequest", "specifying resource version is not allowed when using continue"), JSON)
        if asked and int(asked) > version:
            return self.fail(connection, {"do": "toolarge"})
        start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0)
        metadata = {"resourceVersion": str(version)}
        if limit and start + limit < len(things):
            metadata["continue"] = str(start + limit)
        page = things[start:start + limit] if limit else things[start:]
        body = {"apiVersion": "v1", "kind": KINDS.get(target.plural, "Thing") + "List", "metadata": metadata, "items": page}
        return self.send(connection, json.dumps(body, indent=world.indent).encode())

    def send(self, connection, data):
        if not self.world.chunk:
            return connection.reply(200, data, JSON)
        connection.head(200, JSON + [("Transfer-Encoding", "chunked")])
        self.pieces(connection, data)
        return connection.raw(b"0\r\n\r\n")

    def pieces(self, connection, data):
        size = self.world.chunk or len(data)
        for start in range(0, len(data), size):
            connection.chunk(data[start:start + size])

    def line(self, connection, kind, thing):
        self.pieces(connection, json.dumps({"type": kind, "object": thing}, indent=self.world.indent).encode() + b"\n")

    def watch(self, connection, target, query):
        world, wanted = self.world, self.world.select(target, query)
        initial = query.get("sendInitialEvents") == "true"
        if initial and world.streaming == "no":
            return connection.reply(422, status(422, "Invalid", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"), JSON)
        with world.changed:
            at, bookmarks, closes = world.version, world.bookmarks, world.closes
            things = list(world.objects.get(target.collection, {}).values())
        asked = query.get("resourceVersion", "")
        connection.head(200, JSON + [("Transfer-Encoding", "chunked")])
        if initial and world.streaming == "etcd34":
            self.line(connection, "ERROR", status(500, "InternalError", "required storage feature RequestWatchProgress is disabled"))
            return connection.raw(b"0\r\n\r\n")
        if initial:
            for thing in filter(wanted, things):
                self.line(connection, "ADDED", thing)
            for event in world.early.get(target.collection, []):
                self.line(connection, event["type"], event["object"])
            if world.streaming != "ignored":
                self.line(connection, "BOOKMARK", {"kind": KINDS.get(target.plural, "Thing"), "apiVersion": "v1", "metadata": {
                    "resourceVersion": str(at), "creationTimestamp": None, "annotations": {"k8s.io/initial-events-end": "true"}}})
        elif int(asked) < world.oldest:
            self.line(connection, "ERROR", expired(asked, world.oldest))
            return connection.raw(b"0\r\n\r\n")
        else:
            at = int(asked)
        until = time.monotonic() + int(query.get("timeoutSeconds") or 60)
        while time.monotonic() < until and not connection.server.stopping.is_set():
            with world.changed:
                news = [entry for entry in world.history if entry[0] > at and entry[2] == target.collection]
                if not news and world.bookmarks == bookmarks and world.closes == closes:
                    world.changed.wait(0.05)
                    continue
                at = max([at] + [entry[0] for entry in news])
                mark, bookmarks = world.bookmarks != bookmarks, world.bookmarks
                if world.closes != closes:
                    raise Closed
            for _, kind, _, thing in news:
                if wanted(thing):
                    self.line(connection, kind, thing)
            if mark and query.get("allowWatchBookmarks") == "true":
                self.line(connection, "BOOKMARK", {"kind": "Thing", "apiVersion": "v1", "metadata": {"resourceVersion": str(max(at, world.version)), "creationTimestamp": None}})
        return connection.raw(b"0\r\n\r\n")

    # ---- writing
    def review(self, connection):
        asked = json.loads(connection.request.body)
        audiences = asked["spec"].get("audiences", [])
        found = self.world.tokens.get(asked["spec"].get("token"), {"error": f"[invalid bearer token, token audiences is invalid for the target audiences {audiences}]", "user": {}})
        return connection.reply(201, {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": asked["spec"], "status": found}, JSON)

    def event(self, connection, target):
        asked = json.loads(connection.request.body)
        if connection.request.method == "PATCH":
            with self.world.changed:
                held = self.world.objects.get(target.collection, {}).get((target.namespace, target.name))
            if not held:
                return connection.reply(404, status(404, "NotFound", "events not found"), JSON)
            if connection.request.header("Content-Type") != "application/merge-patch+json" or asked["series"]["count"] < 2 or not MICRO.fullmatch(asked["series"]["lastObservedTime"]):
                return connection.reply(422, status(422, "Invalid", "series"), JSON)
            return connection.reply(200, self.world.change("ADDED", target.collection, (target.namespace, target.name), {**held, **asked}), JSON)
        lacking = [name for name in ("action", "reason", "reportingController", "reportingInstance", "regarding", "type") if not asked.get(name)]
        if lacking or asked["metadata"]["namespace"] != target.namespace or len(asked.get("note", "")) > 1024 or asked["type"] not in ("Normal", "Warning"):
            return connection.reply(422, status(422, "Invalid", f"lacks {lacking}"), JSON)
        if not MICRO.fullmatch(asked.get("eventTime", "")):
            return connection.reply(400, status(400, "BadRequest", "eventTime: parsing time"), JSON)
        return connection.reply(201, self.world.change("ADDED", target.collection, (target.namespace, asked["metadata"]["name"]), asked), JSON)

    # ---- steering
    def steer(self, connection, query):
        action = getattr(self, "steer" + connection.request.path[1:], None)
        if not action:
            return connection.reply(400, {"error": "see the top of kubeapi.py"})
        return connection.reply(200, action(query) or {})

    def steer_log(self, query):
        with self.world.changed:
            log = list(self.world.log)
            if query.get("clear"):
                self.world.log.clear()
        return log

    def steer_put(self, query):
        thing, path = json.loads(query["json"]), query["path"]
        count = int(query.get("count") or 0)
        if "pad" in query:
            thing.setdefault("spec", {})["pad"] = "x" * int(query["pad"])
        for _ in range(int(query.get("depth") or 0)):
            thing["spec"] = {"deeper": thing.get("spec", {})}
        name = thing["metadata"]["name"]
        for number in range(count or 1):
            thing["metadata"]["name"] = f"{name}-{number}" if count else name
            self.world.change("ADDED", path, (thing["metadata"].get("namespace", ""), thing["metadata"]["name"]), json.loads(json.dumps(thing)))

    def steer_delete(self, query):
        self.world.change("DELETED", query["path"], (query.get("namespace", ""), query["name"]), None)

    def steer_early(self, query):
        self.world.early[query["path"]] = json.loads(query["json"])

    def steer_bookmark(self, _):
        with self.world.changed:
            self.world.bookmarks += 1
            self.world.changed.notify_all()

    def steer_close(self, _):
        with self.world.changed:
            self.world.closes += 1
            self.world.changed.notify_all()

    def steer_expire(self, _):
        with self.world.changed:
            self.world.version += 1
            self.world.oldest = self.world.version

    def steer_restore(self, _):
        with self.world.changed:
            self.world.version, self.world.oldest = 10, 1
            self.world.history.clear()

    def steer_token(self, query):
        self.world.tokens[query["token"]] = json.loads(query["json"])

    def steer_set(self, query):
        self.world.streaming = query.get("streaming", self.world.streaming)
        self.world.chunk = int(query.get("chunk", self.world.chunk))
        if "pretty" in query:
            self.world.indent = 2 if query["pretty"] == "1" else None
        if "accept" in query:
            self.world.accept = query["accept"].split(",") if query["accept"] else None

    def steer_fault(self, query):
        with self.world.changed:
            self.world.faults.append({**query, "count": int(query.get("count") or 1)})

    def steer_reset(self, _):
        old, self.world = self.world, World()
        with old.changed:
            old.closes += 1
            old.changed.notify_all()


def main():
    parser = argparse.ArgumentParser(description="scripted Kubernetes API server; see the top of this file")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--client-ca", metavar="PEM", help="the TLS port wants a client certificate of this CA")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-eof", action="store_true")
    arguments = parser.parse_args()
    api = Api()
    servers = [Server(api.handle, None, "127.0.0.1", arguments.port)]
    ports = [servers[0].port, 0]
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        if arguments.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(arguments.client_ca)
        servers.append(Server(api.handle, context))
        ports.append(servers[1].port)
    print("ready", *ports, flush=True)

    wait_for_end(arguments.until_eof)
    for server in servers:
        server.stop()


if __name__ == "__main__":
    main()
