"""e2e_identity: pods as processes of their own, in real cgroups named as the kubelet names them, or with a folder in the place of /proc that says the same."""
import array
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import uuid

import yaml

from e2e_daemon import Answer, await_true

# Asks what it is told, over a connection of its own each time or over the one that it kept; hands connections out too. Waits for its cgroup before the first.
CALLER = r'''
import array, http.client, json, os, socket, sys
agent, kept, control = sys.argv[1], {}, socket.socket(fileno=int(sys.argv[2]))

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(agent)

for line in sys.stdin:
    order = json.loads(line)
    if order.get('hand_out'):
        connection = Connection('localhost')
        connection.connect()
        control.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [connection.sock.fileno()]))])
        kept[object()] = connection
        continue
    name = order.get('keep')
    connection = kept.get(name) or Connection('localhost')
    try:
        connection.request(order['method'], order['target'], order.get('body'), order.get('headers', {}))
        answer = connection.getresponse()
        told = {'status': answer.status, 'headers': dict((k.lower(), v) for k, v in answer.getheaders()), 'body': answer.read().decode()}
    except OSError as problem:
        told = {'status': 0, 'headers': {}, 'body': repr(problem)}
    if name:
        kept[name] = connection
    else:
        connection.close()
    print(json.dumps(told), flush=True)
'''


def container_id():
    return secrets.token_hex(32)


def pod_object(name, namespace, uid=None, containers=(), annotations=None, owners=None, node=None, **labels):
    metadata = {'name': name, 'namespace': namespace, 'uid': uid or str(uuid.uuid4()), 'labels': labels}
    if annotations:
        metadata['annotations'] = annotations
    if owners:
        metadata['ownerReferences'] = owners
    made = {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': metadata, 'spec': {'serviceAccountName': 'runner', 'containers': [{'name': 'a', 'image': 'b'}]}}
    if node:
        made['spec']['nodeName'] = node
    if containers:
        made['status'] = {'containerStatuses': [{'name': 'a', 'containerID': f'containerd://{container}'} for container in containers]}
    return made


def uid_of(pod):
    return pod['metadata']['uid']


# ---- how a process gets its cgroup ----
def cgroup2():
    """Where cgroups may be made by this user, or None."""
    with open('/proc/self/mounts', encoding='utf-8') as stream:
        for line in stream:
            _, at, kind, *_ = line.split(' ')
            probe = os.path.join(at, f'wasmcached-probe-{os.getpid()}')
            if kind != 'cgroup2':
                continue
            try:
                os.mkdir(probe)
                child = subprocess.Popen(['sleep', '60'])
                try:
                    with open(os.path.join(probe, 'cgroup.procs'), 'w', encoding='utf-8') as procs:
                        procs.write(str(child.pid))
                finally:
                    child.kill()
                    child.wait()
                return at
            except OSError:
                pass
            finally:
                if os.path.isdir(probe):
                    await_true(lambda: not remove_quietly(probe), 5)
    return None


def remove_quietly(folder):
    """True when it could not be removed."""
    try:
        os.rmdir(folder)
    except OSError:
        return True
    return False


class RealCgroups:
    def __init__(self, root):
        self.root, self.made, self.environment = root, [], {}

    def put(self, pid, path):
        at = self.root
        for part in path.strip('/').split('/'):
            at = os.path.join(at, part)
            if not os.path.isdir(at):
                os.mkdir(at)
                self.made.append(at)
        with open(os.path.join(at, 'cgroup.procs'), 'w', encoding='utf-8') as procs:
            procs.write(str(pid))

    def close(self):
        for at in reversed(self.made):
            await_true(lambda at=at: not remove_quietly(at), 10, f'the end of {at}')


class FolderOfProc:
    """For users who may make no cgroups: what the test build reads in the place of /proc/PID/cgroup."""

    def __init__(self, folder):
        self.folder, self.environment = folder, {'WASMCACHED_TEST_PROC': folder}
        os.makedirs(folder, exist_ok=True)

    def text(self, pid, text):
        os.makedirs(os.path.join(self.folder, str(pid)), exist_ok=True)
        with open(os.path.join(self.folder, str(pid), 'cgroup'), 'wb') as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())

    def put(self, pid, path):
        self.text(pid, f'0::{path}\n')

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Caller:
    """A process at `path` among the cgroups."""

    def __init__(self, daemon, cgroups, path=None):
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen([sys.executable, '-c', CALLER, daemon.agent, str(theirs.fileno())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                            pass_fds=[theirs.fileno()])
        self.control = ours
        if path:
            cgroups.put(self.process.pid, path)

    def tell(self, **order):
        self.process.stdin.write(json.dumps(order) + '\n')
        self.process.stdin.flush()

    def ask(self, method, target, body=None, keep=None, **headers):
        if body is not None:
            headers['Content-Type'] = 'application/json'
        self.tell(method=method, target=target, body=body if body is None or isinstance(body, str) else json.dumps(body), keep=keep, headers=headers)
        told = json.loads(self.process.stdout.readline())
        answer = Answer.__new__(Answer)
        answer.status, answer.headers, answer.body = told['status'], told['headers'], told['body'].encode()
        return answer

    def get(self, url, keep=None, token=None, **fields):
        return self.ask('POST', '/v1/modules', {'url': url, **fields}, keep=keep, **({'Authorization': f'Bearer {token}'} if token else {}))

    def hand_out(self):
        """A socket that this process connected."""
        self.tell(hand_out=True)
        _, extra, _, _ = self.control.recvmsg(1, socket.CMSG_SPACE(4))
        fds = array.array('i')
        fds.frombytes(extra[0][2][:4])
        handed = socket.socket(fileno=fds[0])
        handed.settimeout(60)             # its maker has made it non-blocking
        return handed

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.control.close()


class Node:
    """A daemon with a listener of identity pod, Pods in manifests, and processes in their cgroups."""

    def __init__(self, daemon, cgroups):
        self.daemon, self.cgroups, self.callers = daemon, cgroups, []
        self.manifests = os.path.join(daemon.folder, 'manifests')
        os.makedirs(self.manifests)
        module = os.path.join(daemon.folder, 'files', 'plugin.wasm')
        os.makedirs(os.path.dirname(module))
        with open(module, 'wb') as stream:
            stream.write(b'\0asm\1\0\0\0')
        self.url = f'file://{module}'
        daemon.configure(listeners=[{'path': daemon.agent, 'identity': 'pod', 'module_dir': '/seen/{namespace}/here'}, {'path': daemon.trusted, 'identity': 'trusted'}],
                         manifests=self.manifests, files={'roots': [os.path.dirname(module)]})

    def start(self):
        self.daemon.start(environment=self.cgroups.environment)
        return self

    def put(self, name, *objects):
        hidden = os.path.join(self.manifests, '.new')
        with open(hidden, 'w', encoding='utf-8') as stream:
            yaml.safe_dump_all(objects, stream)
        os.rename(hidden, os.path.join(self.manifests, name))

    def caller(self, pod=None, container=None, path=None):
        """In the cgroup of this pod as cgroupfs names it, or at `path`."""
        if pod:
            path = f'/kubepods/burstable/pod{uid_of(pod)}/{container or container_id()}'
        self.callers.append(Caller(self.daemon, self.cgroups, path))
        return self.callers[-1]

    def close(self):
        for caller in self.callers:
            caller.end()
        code = self.daemon.stop()
        self.cgroups.close()
        assert code in (0, None), self.daemon.told()[-3000:]        # a sanitizer's finding too


def known(node, caller, **fields):
    """Waits until the daemon has read of the pod, and says its answer."""
    return await_true(lambda: (lambda answer: answer if answer.status == 200 else None)(caller.get(node.url, **fields)), 20, 'a pod to be known')
