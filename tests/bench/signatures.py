"""What signatures cost: the measures of issue 4, with the tools of `run`, which hands itself over as `bench`."""
import hashlib, json, os, re, subprocess, time


def key_make(bench, name):
    private, public = bench.at(name + '.key'), bench.at(name + '.pub')
    subprocess.run(['openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', private], check=True, capture_output=True)
    subprocess.run(['openssl', 'pkey', '-in', private, '-pubout', '-out', public], check=True, capture_output=True)
    with open(public) as file:
        return private, public, file.read()


def sign(bench, scene, url, private):
    """A classic signature as cosign v2 writes it, under the tag sha256-<digest>.sig."""
    repository, tag = url.removeprefix(f'oci://{scene.registry.host}/').rsplit(':', 1)
    digest = scene.registry.call('HEAD', f'/v2/{repository}/manifests/{tag}', Accept='application/vnd.oci.image.manifest.v1+json').headers['Docker-Content-Digest']
    payload = json.dumps({'critical': {'identity': {'docker-reference': f'{scene.registry.host}/{repository}'}, 'image': {'docker-manifest-digest': digest},
                                       'type': 'cosign container image signature'}, 'optional': None}, separators=(',', ':')).encode()
    der = subprocess.run(['openssl', 'dgst', '-sha256', '-sign', private], input=payload, check=True, capture_output=True).stdout
    text = subprocess.run(['openssl', 'base64', '-A'], input=der, check=True, capture_output=True, ).stdout.decode()
    kind = 'application/vnd.oci.image.manifest.v1+json'
    manifest = {'schemaVersion': 2, 'mediaType': kind, 'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', **scene.registry.blob(repository, b'{}')},
                'layers': [{'mediaType': 'application/vnd.dev.cosign.simplesigning.v1+json', **scene.registry.blob(repository, payload),
                            'annotations': {'dev.cosignproject.cosign/signature': text}}]}
    scene.registry.call('PUT', f'/v2/{repository}/manifests/{digest.replace(":", "-")}.sig', json.dumps(manifest).encode(), Content_Type=kind)


def request_file(bench, url, **more):
    body = json.dumps({'url': url, **more})
    name = bench.at('request-' + hashlib.sha256(body.encode()).hexdigest()[:8])
    with open(name, 'w') as file:
        file.write(f'POST /v1/modules HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}')
    return name


def measure_verified_hit(bench, scene):
    """The round trip of a hit with a key and of the same hit without, in turn."""
    private, _, text = key_make(bench, 'hit')
    sign(bench, scene, scene.small, private)
    daemon = scene.pinned
    answer = daemon.call('POST', '/v1/modules', {'url': scene.small, 'verificationKey': text})
    assert answer['verified']['format'] == 'cosign-simple', answer
    files, ratios, times = (request_file(bench, scene.small), request_file(bench, scene.small, verificationKey=text)), [], []
    for _ in range(5):
        got = [bench.tool('client', 'rounds', bench.SERVER_CPU, daemon.agent, file, 5000, 3)['hit_ns'] for file in files]
        times.append(got)
        ratios.append(got[1] / got[0])
    plain, verified = (bench.median([pair[i] for pair in times]) / 1000 for i in (0, 1))
    bench.say('verified hit / unverified hit', bench.median(ratios), 1.05, f'{verified:.2f} us / {plain:.2f} us, median ratio of 5 pairs in turn, body with the key {len(text)} B longer')


def measure_verified_pull(bench, scene):
    """The same module, signed and asked with the key, and unsigned without one, pulled cold in turn."""
    private, _, text = key_make(bench, 'pull')
    url = scene.gzip
    sign(bench, scene, url, private)
    daemon, taken = scene.daemon, {'plain': [], 'signed': []}
    for i in range(16):
        for kind, more in (('plain', {}), ('signed', {'verificationKey': text})):
            began = time.perf_counter()
            answer = daemon.call('POST', '/v1/modules', {'url': url, **more})
            taken[kind].append(time.perf_counter() - began)
            assert answer['source'] == 'pulled' and (answer['verified'] is not None) == bool(more), answer
            daemon.forget(answer)
    plain, signed = (bench.median(taken[kind][1:]) * 1000 for kind in ('plain', 'signed'))
    bench.say('cold pull signed / unsigned, 14 MB gzip', signed / plain, 1.15, f'{signed:.1f} ms / {plain:.1f} ms, medians of 15 in turn, loopback, one classic signature')


def verified_count(bench, daemon):
    import http.client
    connection = bench.UnixConnection(daemon.admin)
    connection.request('GET', '/metrics')
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(int(number) for number in re.findall(r'^wasmcached_verifications_total\{[^}]*result="verified"[^}]*\} (\d+)', text, re.M))


def verify_microseconds():
    done = subprocess.run(['openssl', 'speed', '-seconds', '1', 'ecdsap256'], capture_output=True, text=True)
    found = re.search(r'([\d.]+)\s*$', done.stdout.strip().splitlines()[-1])
    return 1e6 / float(found.group(1))


def measure_rejudge(bench, scene):
    """Start with 10 000 signed images whose signatures a rule of the node demands: ready at once, and all judged again beside it."""
    private, public, _ = key_make(bench, 'rejudge')
    root, count = bench.at('rejudged'), 10000
    bench.tool('fill', root, 0, count)
    bench.tool('sign', root, 0, count, private)
    taken = {}
    for kind in ('without', 'with'):
        daemon = bench.Daemon(f'rejudge-{kind}', scene.registry.host, root)
        if kind == 'with':
            daemon.stop()
            with open(daemon.config, 'a') as config:
                config.write(f'trust: {{require: [{{match: "127.0.0.1:5000/fill/*", keys: [{public}]}}]}}\n')
            began = time.perf_counter()
            daemon.start()
            taken['ready'] = time.perf_counter() - began
            bench.await_true('all signatures to be judged again', lambda: time.sleep(0.1) or verified_count(bench, daemon) >= count)
        else:
            time.sleep(2)
        taken[kind] = bench.cpu_seconds(daemon.process.pid)
        if kind == 'with':
            answer = daemon.get('oci://127.0.0.1:5000/fill/m4711:v1')
            assert answer['source'] == 'cache' and answer['verified']['format'] == 'cosign-bundle', answer
        daemon.stop()
    each = verify_microseconds()
    bench.say('judging 10 000 EC signatures again', taken['with'] - taken['without'], 1.0,
              f'CPU of a start with the rule {taken["with"]:.2f} s - without {taken["without"]:.2f} s; openssl speed says {each:.0f} us per verification', ' s')
    bench.say('  ready meanwhile after', taken['ready'] * 1000, None, 'exec to the socket that accepts', ' ms')


MEASURES = {'verified_hit': measure_verified_hit, 'verified_pull': measure_verified_pull, 'rejudge': measure_rejudge}
