"""What plugins from the API server cost: 10 000 WasmPlugins through list and watch. The server here sends bytes that were made before, so that what is measured is the daemon."""
import http.server, json, os, re, shutil, threading, time

import plugins

KINDS = {'wasmplugins': 'WasmPlugin', 'trafficextensions': 'TrafficExtension', 'pods': 'Pod'}
EVENTS = 50


def wasm_plugin(number, version=1):
    space = f'ns{number % plugins.SPACES}'
    return {'apiVersion': 'extensions.istio.io/v1alpha1', 'kind': 'WasmPlugin',
            'metadata': {'name': f'plugin-{number}', 'namespace': space, 'uid': f'00000000-0000-4000-8000-{number:012}', 'resourceVersion': str(version), 'generation': 1,
                         'creationTimestamp': '2026-11-01T00:00:00Z', 'labels': {'team': space},
                         'managedFields': [{'manager': 'kubectl', 'operation': 'Apply', 'apiVersion': 'extensions.istio.io/v1alpha1', 'time': '2026-11-01T00:00:00Z', 'fieldsType': 'FieldsV1',
                                            'fieldsV1': {'f:spec': {'f:url': {}, 'f:phase': {}, 'f:priority': {}, 'f:selector': {'f:matchLabels': {'f:app': {}}}}}}]},
            'spec': {'url': f'oci://127.0.0.1:5000/fill/m{number}:v1', 'phase': 'AUTHZ', 'priority': number % 100 + (version > 1) * version,
                     'selector': {'matchLabels': {'app': f'a{number // plugins.SPACES % plugins.APPS}'}}, 'pluginConfig': {'rules': [{'allow': ['GET', 'POST']}]}}}


def pod(number):
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': f'pod-{number}', 'namespace': f'ns{number % plugins.SPACES}', 'uid': f'00000000-0000-4000-9000-{number:012}',
                                                            'resourceVersion': '1', 'labels': {'app': f'a{number // plugins.SPACES}'}},
            'spec': {'nodeName': 'bench'}, 'status': {'phase': 'Running'}}


def chunk(*events):
    text = b''.join(json.dumps(event, separators=(',', ':')).encode() + b'\n' for event in events)
    return b'%x\r\n%s\r\n' % (len(text), text)


def list_make(kind, things):
    """A streaming list as one answer: what is there, then the bookmark that ends it."""
    end = {'kind': KINDS[kind], 'apiVersion': 'v1', 'metadata': {'resourceVersion': '1', 'annotations': {'k8s.io/initial-events-end': 'true'}}}
    return b''.join(chunk(*({'type': 'ADDED', 'object': thing} for thing in things[at:at + 50])) for at in range(0, len(things), 50)) + chunk({'type': 'BOOKMARK', 'object': end})


class Api(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, lists):
        super().__init__(('127.0.0.1', 0), Handler)
        self.lists = {kind: list_make(kind, things) for kind, things in lists.items()}
        self.watches = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass                                       # a daemon that was stopped

    def push(self, thing):
        for stream in self.watches:
            stream.write(chunk({'type': 'MODIFIED', 'object': thing}))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_GET(self):
        kind = re.search(r'/(\w+)\?', self.path)[1]
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        if 'sendInitialEvents' in self.path:
            self.wfile.write(self.server.lists[kind])
        if kind == 'wasmplugins':
            self.server.watches.append(self.wfile)
        time.sleep(3600)

    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(201)
        self.send_header('Content-Length', '0')
        self.end_headers()


def daemon_make(bench, name, api, root):
    daemon = bench.Daemon(name, '127.0.0.1:5000', root)
    daemon.stop()
    kubeconfig = bench.at(name + '-kubeconfig')
    with open(kubeconfig, 'w') as file:
        json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'c', 'contexts': [{'name': 'c', 'context': {'cluster': 'k', 'user': 'u'}}],
                   'clusters': [{'name': 'k', 'cluster': {'server': f'http://127.0.0.1:{api.server_port}'}}], 'users': [{'name': 'u', 'user': {'token': 'of-a-bench'}}]}, file)
    with open(daemon.config) as file:
        text = file.read().replace('identity: fixed, namespace: default', 'identity: trusted')
    with open(daemon.config, 'w') as file:
        file.write(text + f'kubernetes: {{mode: kubeconfig, kubeconfig: {kubeconfig}, node: bench}}\n')
    return daemon


def started(bench, api, daemon):
    """Seconds from exec until /readyz says yes and until all modules are there; the slowest answer meanwhile."""
    api.watches.clear()
    began, slowest, ready, whole = time.perf_counter(), 0, None, None
    daemon.start()
    connection = bench.UnixConnection(daemon.admin)

    def ask(path):
        connection.request('GET', path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    while not whole:
        assert time.perf_counter() - began < 180, 'not all plugins came to be ready'
        for _ in range(20):
            asked = time.perf_counter()
            status, _ = ask('/readyz')
            now = time.perf_counter()
            slowest = max(slowest, now - asked)
            ready = ready or (now - began if status == 200 else None)
            time.sleep(0.001)
        if ready and f'wasmcached_plugins{{state="ready"}} {plugins.PLUGINS}\n' in ask('/metrics')[1]:
            whole = time.perf_counter() - began
    connection.close()
    return ready, whole, slowest


def measure_events(bench, api, daemon):
    """From the write of a watch's event to the answer of who waits for that chain."""
    bench.await_true('the watch', lambda: api.watches)
    connection, taken = bench.UnixConnection(daemon.agent), []
    path = '/v1/plugins?namespace=ns7&label=app%3Da3'
    connection.request('GET', path)
    answer = connection.getresponse()
    answer.read()
    for version in range(2, 2 + EVENTS):
        connection.request('GET', path + '&wait=30s', headers={'If-None-Match': answer.headers['ETag']})
        time.sleep(0.02)
        began = time.perf_counter()
        api.push(wasm_plugin(67, version))
        answer = connection.getresponse()
        taken.append(time.perf_counter() - began)
        found = [entry['resourceVersion'] for entry in json.loads(answer.read())['plugins'] if entry['name'] == 'plugin-67']
        assert answer.status == 200 and found == [str(version)], found
    connection.close()
    bench.say('watch event to a chain that is waited for', bench.median(taken) * 1000, 5.0, f'median of {EVENTS}, 10 000 plugins; the longest {max(taken) * 1000:.1f} ms', ' ms')


def resting_kib(bench, name, root, lists):
    """VmRSS of a daemon that has listed these and given back what it had for a moment only."""
    api = Api(lists)
    daemon = daemon_make(bench, name, api, root).start()
    connection = bench.UnixConnection(daemon.admin)
    count = len(lists['wasmplugins'])

    def is_listed():
        connection.request('GET', '/metrics')
        return f'wasmcached_plugin_resources{{state="accepted"}} {count}\n' in connection.getresponse().read().decode()
    bench.await_true('the list', is_listed)
    time.sleep(4)
    used = bench.memory_kib(daemon.process.pid, 'VmRSS')
    connection.close()
    daemon.stop()
    api.shutdown()
    return used


def measure_memory(bench, root, things):
    """Text: what of an object is kept in any case, its names and its spec."""
    nothing = {'wasmplugins': [], 'trafficextensions': [], 'pods': []}
    base, listed = (resting_kib(bench, f'resting-{len(some)}', root, {**nothing, 'wasmplugins': some}) for some in ([], things))
    text = sum(len(json.dumps(thing['spec'], separators=(',', ':'))) + sum(map(len, (thing['metadata'][name] for name in ('name', 'namespace', 'uid')))) for thing in things) / len(things)
    bench.say('RSS per plugin beyond its text', (listed - base) * 1024 / len(things) - text, 2048.0,
              f'(VmRSS with 10 000 plugins listed {listed / 1024:.1f} MiB - without {base / 1024:.1f} MiB) / 10 000 - {text:.0f} B of text', ' B')
    return base


def measure_cluster(bench, scene):
    root, count = bench.at('clustered'), plugins.PLUGINS
    things = [wasm_plugin(number) for number in range(count)]
    api = Api({'wasmplugins': things, 'trafficextensions': [], 'pods': [pod(number) for number in range(plugins.SPACES * plugins.APPS)]})
    bench.tool('fill', root, 0, count)
    base = measure_memory(bench, root, things)
    shutil.rmtree(os.path.join(root, 'cluster'))
    daemon = daemon_make(bench, 'clustered', api, root)
    first = started(bench, api, daemon)
    daemon.stop()
    again = []
    for _ in range(3):
        again.append(started(bench, api, daemon))
        if len(again) < 3:
            daemon.stop()
    bench.say('exec to 10 000 plugins of the API listed', first[0], 1.0, 'the first start: nothing is remembered', ' s')
    bench.say('  their modules handed out for the first time', first[1], 5.0, '10 000 links made and written down', ' s')
    bench.say('  the slowest answer meanwhile', first[2] * 1000, None, '/readyz over a kept connection each ms', ' ms')
    bench.say('the same, remembered', bench.median(run[0] for run in again), 1.0, 'median of 3 starts', ' s')
    bench.say('  all 10 000 modules ready', bench.median(run[1] for run in again), 1.0, 'median of 3 starts, each plugin its own module', ' s')
    bench.say('  the slowest answer meanwhile', max(run[2] for run in again) * 1000, None, '/readyz over a kept connection each ms', ' ms')
    measure_events(bench, api, daemon)
    time.sleep(4)
    more = (bench.memory_kib(daemon.process.pid, 'VmRSS') - base) * 1024 / count
    bench.say('  RSS per plugin with all that it has here', more, None, 'its module, link and lease, and the chains of 200 workloads too', ' B')
    daemon.stop()
    api.shutdown()


MEASURES = {'cluster': measure_cluster}
