"""What plugins cost: the measures of issue 5, with the tools of `run`, which hands itself over as `bench`."""
import json, os, re, time

PLUGINS, SPACES, APPS = 10000, 20, 10


def measure_chains(bench, scene):
    """The set alone: 10 000 plugins, 200 workloads."""
    figures = bench.tool('chains', cpu=bench.SERVER_CPU)
    how = f'{figures["plugins"]} plugins, {figures["workloads"]} workloads, {figures["items"]} in a chain'
    bench.say('chain of a workload, remembered', figures['cached_ns'] / 1000, 50, how, ' us')
    bench.say('chain recomputed after a change', figures['recompute_ns'] / 1e6, 5, 'median after changes of the root namespace', ' ms')
    bench.say('  the longest of them', figures['recompute_max_cpu_ns'] / 1e6, 5, f'CPU of the thread; {figures["recompute_max_ns"] / 1e6:.2f} ms by the clock, which others\' work on this CPU is part of', ' ms')
    bench.say('memory per plugin beyond its text', figures['plugin_bytes'], 2048, 'heap of the set with the chains of all workloads', ' B')


def manifests_write(bench, folder):
    """Each plugin has a module of its own, out of the store that `fill` made; a Pod for each label in each namespace."""
    os.makedirs(folder, exist_ok=True)
    for file in range(100):
        with open(os.path.join(folder, f'{file:03}.yaml'), 'w') as stream:
            for i in range(file * PLUGINS // 100, (file + 1) * PLUGINS // 100):
                stream.write(f'---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: plugin-{i}, namespace: ns{i % SPACES}}}\nspec:\n'
                             f'  url: oci://127.0.0.1:5000/fill/m{i}:v1\n  phase: AUTHZ\n  priority: {i % 100}\n  selector: {{matchLabels: {{app: a{i // SPACES % APPS}}}}}\n')
    with open(os.path.join(folder, 'pods.yaml'), 'w') as stream:
        for i in range(SPACES * APPS):
            stream.write(f'---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{i}, namespace: ns{i % SPACES}, labels: {{app: a{i // SPACES}}}}}\n')


def ready_count(bench, path):
    try:
        connection = bench.UnixConnection(path)
        connection.request('GET', '/metrics')
        text = connection.getresponse().read().decode()
        connection.close()
    except OSError:
        return 0
    found = re.search(r'^wasmcached_plugins\{state="ready"\} (\d+)', text, re.M)
    return int(found[1]) if found else 0


def await_ready(bench, daemon):
    end = time.monotonic() + 180                   # the first time, each hand-out is written down before it is told
    while ready_count(bench, daemon.admin) != PLUGINS:
        assert time.monotonic() < end, 'not all plugins came to be ready'
        time.sleep(0.02)


def measure_plugins(bench, scene):
    """The daemon with 10 000 plugins that 200 Pods select: until all are ready, and what an unchanged chain costs it."""
    root, folder = bench.at('plugged'), bench.at('manifests')
    bench.tool('fill', root, 0, PLUGINS)
    manifests_write(bench, folder)
    daemon = bench.Daemon('plugged', scene.registry.host, root)
    daemon.stop()
    with open(daemon.config) as config:
        text = config.read().replace('identity: fixed, namespace: default', 'identity: trusted')
    with open(daemon.config, 'w') as config:
        config.write(text + f'manifests: {folder}\n')
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        daemon.start()
        await_ready(bench, daemon)
        taken.append(time.perf_counter() - began)
        if len(taken) < 4:
            daemon.stop()
    bench.say('exec to 10 000 plugins ready', bench.median(taken[1:]), 1.0, f'median of 3 starts, each plugin its own module; the first time, with 10 000 links to be made: {taken[0]:.2f} s', ' s')
    connection = bench.UnixConnection(daemon.agent)

    def ask(headers):
        connection.request('GET', '/v1/plugins?namespace=ns7&label=app%3Da3&direction=inbound&port=8080', headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    answer, body = ask({})
    etag = answer.headers['ETag']
    assert len(json.loads(body)['plugins']) == PLUGINS // SPACES // APPS
    for name, headers, limit in (('chain over the socket, unchanged (304)', {'If-None-Match': etag}, 50), ('  the same with its body', {}, None)):
        used = bench.cpu_seconds(daemon.process.pid)
        for _ in range(5000):
            ask(headers)
        each = (bench.cpu_seconds(daemon.process.pid) - used) / 5000
        bench.say(name, each * 1e6, limit, f'CPU of the daemon per request, {len(body)} B' if limit is None else 'CPU of the daemon per request, serving and parsing included', ' us')
    bench.say('  RSS with 10 000 plugins', bench.memory_kib(daemon.process.pid, 'VmRSS') / 1024, None, 'VmRSS', ' MiB')
    daemon.stop()


MEASURES = {'chains': measure_chains, 'plugins': measure_plugins}
