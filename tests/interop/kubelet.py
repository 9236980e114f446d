"""A real node on a machine that keeps everything it had: kubelet, containerd, runc and the control plane in a mount, network and process namespace of their own, where /run, /var/lib and /var/log are empty.
Outside are only the cgroups, below one of this test, which go at the end."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import kube
import peers

PROGRAMS = ('kubelet', 'kube-scheduler', 'kube-controller-manager')
TOOLS = ('containerd', 'containerd-shim-runc-v2', 'ctr', 'runc', 'nsenter', 'unshare', 'ip', 'docker-registry')
PLUGINS = ('bridge', 'host-local', 'loopback')
NODE, SERVICE = '10.99.0.1', '10.0.0.1'
# What kubelet would set for the whole machine: it finds it set.
KERNEL = {'vm/overcommit_memory': '1', 'vm/panic_on_oom': '0', 'kernel/panic': '10', 'kernel/panic_on_oops': '1', 'kernel/keys/root_maxkeys': '1000000', 'kernel/keys/root_maxbytes': '25000000'}
# The first process of the namespaces: its end is theirs. Those that lost their parent are its children.
FIRST = 'import os, time\nprint("here", flush=True)\nwhile True:\n try: os.wait()\n except ChildProcessError: time.sleep(0.1)'


def missing():
    """Why there can be no node here; None = there can."""
    if os.environ.get('INTEROP_KUBELET') != '1':
        return 'only with INTEROP_KUBELET=1'
    if os.geteuid() != 0:
        return 'needs root, for namespaces, mounts and cgroups'
    if lacking := [name for name in (*kube.PROGRAMS, *PROGRAMS, 'istio-crds.yaml') if not (peers.PEERS / name).exists()]:
        return f'{", ".join(lacking)}: not in {peers.PEERS}; tests/interop/install-kube builds it'
    lacking = [name for name in TOOLS if not shutil.which(name)] + [name for name in PLUGINS if not pathlib.Path('/usr/lib/cni', name).exists()]
    if lacking:
        return f'{", ".join(lacking)}: not installed; tools/install-build-deps --node does that'
    if subprocess.run(['unshare', '--mount', '--net', '--pid', '--fork', 'true'], capture_output=True, check=False).returncode:
        return 'no namespaces may be made here'
    return None if hierarchies() else 'no cgroups here that may be written'


def hierarchies():
    """[(mount, kind, options)] of the cgroups."""
    lines = [line.split() for line in pathlib.Path('/proc/self/mounts').read_text().splitlines()]
    return [(pathlib.Path(at), kind, options.split(',')) for _, at, kind, options, *_ in lines if kind in ('cgroup', 'cgroup2') and os.access(at, os.W_OK)]


class Node(kube.Cluster):
    """One node, node-a, with a control plane. Images are what import_image() gives it."""
    address, bind, names = NODE, '0.0.0.0', f'IP:{NODE},IP:{SERVICE},DNS:kubernetes.default.svc'

    def __init__(self, folder):
        self.group = pathlib.Path(f'wasmcached-kubelet-{os.getpid()}')
        self.tokens = 'of-the-node,system:node:node-a,u2,"system:nodes"\n'
        self.first = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--net', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private', sys.executable, '-c', FIRST],
                                      stdout=subprocess.PIPE)
        assert self.first.stdout.readline() == b'here\n'
        child, = pathlib.Path(f'/proc/{self.first.pid}/task/{self.first.pid}/children').read_text().split()
        self.within = ('nsenter', '-t', child, '--mount', '--net', '--pid', '--uts', '--ipc', '--')
        super().__init__(folder)
        self.port, self.log_folder = 443, self.folder / 'var-log'
        self.options = ('--kubelet-client-certificate', self.pki / 'api.crt', '--kubelet-client-key', self.pki / 'api.key', '--kubelet-preferred-address-types', 'InternalIP')
        self.kubeconfig = self.write_kubeconfig('admin', self.token)

    def run(self, *words, good=True, **how):
        ran = subprocess.run([*self.within, *map(str, words)], capture_output=True, text=True, check=False, env=peers.ENVIRONMENT, **how)
        assert not good or ran.returncode == 0, (words, ran.stdout[-2000:], ran.stderr[-2000:])
        return ran.stdout if good else ran

    # ---- the ground
    def prepare(self):
        for name, at in (('var-lib', '/var/lib'), ('var-log', '/var/log')):
            (self.folder / name).mkdir()
            self.run('mount', '--bind', self.folder / name, at)
        self.run('mount', '-t', 'tmpfs', 'tmpfs', '/run')
        for name, value in KERNEL.items():
            if pathlib.Path('/proc/sys', name).exists():
                (self.folder / name.replace('/', '-')).write_text(value + '\n')
                self.run('mount', '--bind', self.folder / name.replace('/', '-'), f'/proc/sys/{name}')
        for words in (('link', 'set', 'lo', 'up'), ('addr', 'add', f'{SERVICE}/32', 'dev', 'lo'), ('link', 'add', 'node0', 'type', 'bridge'), ('addr', 'add', f'{NODE}/24', 'dev', 'node0'),
                      ('link', 'set', 'node0', 'up'), ('route', 'add', 'default', 'dev', 'node0')):
            self.run('ip', *words)
        self.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
        for at, kind, options in hierarchies():
            place = at / self.group
            place.mkdir()
            if kind == 'cgroup' and 'cpuset' in options:
                for name in ('cpuset.cpus', 'cpuset.mems'):
                    (place / name).write_text((at / name).read_text())

    def launch_containerd(self):
        config, cni = self.folder / 'containerd.toml', self.folder / 'cni'
        cni.mkdir()
        (cni / '10-bridge.conflist').write_text(json.dumps({'cniVersion': '0.4.0', 'name': 'pods', 'plugins': [{
            'type': 'bridge', 'bridge': 'pods0', 'isGateway': True, 'ipMasq': False, 'ipam': {'type': 'host-local', 'dataDir': str(self.folder / 'ipam'), 'ranges': [[{'subnet': '10.88.0.0/24'}]], 'routes': [{'dst': '0.0.0.0/0'}]}}]}))
        config.write_text(f'''version = 2
root = "{self.folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/wasmcached-test/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
''')
        self.launch('containerd', '--config', config)
        self.await_true(lambda: self.run('ctr', 'version', good=False).returncode == 0, 'containerd', 30)

    def launch_kubelet(self):
        config = self.folder / 'kubelet.yaml'
        (self.folder / 'static').mkdir()
        config.write_text(json.dumps({
            'apiVersion': 'kubelet.config.k8s.io/v1beta1', 'kind': 'KubeletConfiguration', 'failSwapOn': False, 'failCgroupV1': False, 'cgroupDriver': 'cgroupfs', 'cgroupRoot': f'/{self.group}',
            'containerRuntimeEndpoint': 'unix:///run/containerd/containerd.sock', 'authentication': {'x509': {'clientCAFile': str(self.pki / 'ca.crt')}, 'anonymous': {'enabled': False}, 'webhook': {'enabled': False}},
            'authorization': {'mode': 'AlwaysAllow'}, 'protectKernelDefaults': True, 'makeIPTablesUtilChains': False, 'oomScoreAdj': 0, 'maxOpenFiles': 10000, 'resolvConf': '', 'enforceNodeAllocatable': ['pods'],
            'evictionHard': {'memory.available': '1Mi', 'nodefs.available': '0%', 'imagefs.available': '0%', 'nodefs.inodesFree': '0%'}, 'imageGCHighThresholdPercent': 100, 'localStorageCapacityIsolation': False,
            'syncFrequency': '5s', 'fileCheckFrequency': '2s', 'staticPodPath': str(self.folder / 'static'), 'containerLogMaxSize': '50Mi', 'volumePluginDir': str(self.folder / 'volume-plugins')}))
        self.launch('kubelet', '--config', config, '--kubeconfig', self.write_kubeconfig('node', 'of-the-node'), '--hostname-override', 'node-a', '--node-ip', NODE, '--root-dir', '/var/lib/kubelet', '-v', '2')

    def start(self):
        self.prepare()
        super().start()
        self.launch('kube-controller-manager', '--kubeconfig', self.kubeconfig, '--leader-elect=false', '--root-ca-file', self.pki / 'ca.crt', '--service-account-private-key-file', self.pki / 'sa.key',
                    '--controllers', 'daemonset-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,node-lifecycle-controller,namespace-controller,pod-garbage-collector-controller')
        self.launch('kube-scheduler', '--kubeconfig', self.kubeconfig, '--leader-elect=false')
        self.launch_containerd()
        self.launch_kubelet()
        return self

    def is_ready(self):
        return self.kubectl('get', '--raw', '/readyz', good=False).stdout == 'ok'

    def await_true(self, check, what, seconds=120):
        end = time.monotonic() + seconds
        while not (value := check()):
            dead = [name for name, child in self.children.items() if child.poll() is not None]
            assert not dead, f'{dead[0]} has ended: ' + (self.folder / f'{dead[0]}.log').read_text(errors='replace')[-3000:]
            assert time.monotonic() < end, f'{what} did not come about in {seconds} s'
            time.sleep(0.2)
        return value

    def stop(self, *names):
        """All of it: with the first process of a process namespace every other one ends."""
        self.first.kill()
        self.first.wait()
        for child in self.children.values():
            child.wait()
        for at, _, _ in hierarchies():
            self.remove_group(at / self.group)

    def remove_group(self, place):
        end = time.monotonic() + 20
        for folder, _, _ in os.walk(place, topdown=False):
            while True:
                try:
                    os.rmdir(folder)
                    break
                except OSError as problem:
                    assert time.monotonic() < end, problem
                    time.sleep(0.1)
