"""What it costs to know who asks: the same hit over a listener of identity pod and over one of identity fixed, in turn, with the tools of `run`, which hands itself over as `bench`."""
import json, os, secrets, statistics, subprocess, sys, uuid

PODS, CONNECTIONS = 200, 2000

# Joins the cgroup, then asks over a new connection each time, both listeners in turn: nanoseconds from connect(2) to the whole answer, medians.
FIRST = r'''
import json, os, socket, statistics, sys, time
procs, request, count, cpu, *paths = sys.argv[1:]
with open(procs, 'w') as file:
    file.write(str(os.getpid()))
os.sched_setaffinity(0, {int(cpu)})
with open(request, 'rb') as file:
    text = file.read()
taken = {path: [] for path in paths}
for _ in range(int(count)):
    for path in paths:
        began = time.perf_counter_ns()
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            one.sendall(text)
            answer = one.recv(16384)
            taken[path].append(time.perf_counter_ns() - began)
        assert answer.startswith(b'HTTP/1.1 200'), answer
print(json.dumps([statistics.median(taken[path]) for path in paths]))
'''


def cgroup_make(uid):
    """A pod's group and its container's, as cgroupfs makes them; None where this user may not."""
    with open('/proc/self/mounts') as mounts:
        roots = [line.split(' ')[1] for line in mounts if line.split(' ')[2] == 'cgroup2']
    for root in roots:
        made = []
        try:
            at = root
            for part in ('kubepods', 'burstable', f'pod{uid}', secrets.token_hex(32)):
                at = os.path.join(at, part)
                if not os.path.isdir(at):
                    os.mkdir(at)
                    made.append(at)
            return made
        except OSError:
            for folder in reversed(made):
                os.rmdir(folder)
    return None


def daemon_make(bench, scene, uids):
    root, manifests = bench.at('identity'), bench.at('identity-pods')
    os.mkdir(manifests)
    for number, uid in enumerate(uids):
        with open(os.path.join(manifests, f'{number}.yaml'), 'w') as file:
            json.dump({'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': f'pod-{number}', 'namespace': f'team-{number % 20}', 'uid': uid, 'labels': {'app': f'a{number}'}},
                       'status': {'containerStatuses': [{'containerID': f'containerd://{secrets.token_hex(32)}'}]}}, file)
    daemon = bench.Daemon('identity', scene.registry.host, root, bench.SERVER_CPU)
    daemon.stop()
    pods = bench.at('identity-pod.sock')
    with open(daemon.config) as file:
        text = file.read()
    with open(daemon.config, 'w') as file:
        file.write(text.replace('admin:', f'  - {{path: {pods}, identity: pod, module_dir: "{root}/modules/{{namespace}}"}}\nmanifests: {manifests}\nadmin:', 1))
    return daemon.start(), pods


def measure_identity(bench, scene):
    uids = [str(uuid.uuid4()) for _ in range(PODS)]
    made = cgroup_make(uids[0])
    if not made:
        print(f'{"identity":<44} {"-":>10} {"":>11}  {"":<6}  not measured: this user may make no cgroups')
        return
    procs = os.path.join(made[-1], 'cgroup.procs')
    try:
        daemon, pods = daemon_make(bench, scene, uids)
        daemon.get(scene.small)
        request = daemon.request_file(scene.small)
        join = ['sh', '-c', 'echo $$ > "$0" && exec "$@"', procs]
        ask = [os.path.join(bench.BUILD, 'tests/bench/client'), 'rounds', str(bench.SERVER_CPU)]
        bench.await_true('the pods to be known', lambda: subprocess.run([*join, *ask, pods, request, '1', '1'], capture_output=True).returncode == 0)

        first = subprocess.run([sys.executable, '-c', FIRST, procs, request, str(CONNECTIONS), str(bench.CLIENT_CPU), daemon.agent, pods], check=True, capture_output=True, text=True)
        fixed_ns, pod_ns = json.loads(first.stdout)
        bench.say('identity of a caller, first time', (pod_ns - fixed_ns) / 1000, 300.0,
                  f'new connection to the answer of a hit, pod {pod_ns / 1000:.1f} us - fixed {fixed_ns / 1000:.1f} us, medians of {CONNECTIONS} in turn; {PODS} Pods', ' us')
        differences = []
        for _ in range(5):
            got = [json.loads(subprocess.run([*join, *ask, path, request, '5000', '3'], check=True, capture_output=True, text=True).stdout)['hit_ns'] for path in (daemon.agent, pods)]
            differences.append((got[1] - got[0]) / 1000)
        bench.say('identity of a caller, once known', statistics.median(differences), 30.0, 'the same hit over a kept connection, pod - fixed, median of 5 pairs', ' us')
        daemon.stop()
    finally:
        for folder in reversed(made):
            bench.await_true('a cgroup to be empty', lambda: os.rmdir(folder) is None)


MEASURES = {'identity': measure_identity}
