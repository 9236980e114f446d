"""A real Kubernetes API on loopback: etcd and kube-apiserver as tests/interop/install-kube builds them, with RBAC, tokens and certificates of its own. No node, no controller: what those would do, a test does."""
import json
import os
import pathlib
import secrets
import ssl
import subprocess
import time
import urllib.request

import peers

PROGRAMS = ('etcd', 'kube-apiserver', 'kubectl')


def missing():
    """Why there is no API here; None = there is one."""
    if os.environ.get('INTEROP_SLOW') != '1':
        return 'only with INTEROP_SLOW=1'
    lacking = [name for name in (*PROGRAMS, 'istio-crds.yaml') if not (peers.PEERS / name).exists()]
    return f'{", ".join(lacking)}: not in {peers.PEERS}; tests/interop/install-kube builds it' if lacking else None


class Cluster:
    """`within`: the words before a command that put it where the cluster is."""
    within, address, bind, names, tokens = (), '127.0.0.1', '127.0.0.1', 'IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc', ''
    options = ('--disable-admission-plugins', 'ServiceAccount')

    def __init__(self, folder):
        self.folder, self.pki, self.children = pathlib.Path(folder), pathlib.Path(folder) / 'pki', {}
        self.pki.mkdir(parents=True)
        self.starts = 0
        self.etcd_port, self.peer_port, self.port = peers.free_port(), peers.free_port(), peers.free_port()
        self.token = secrets.token_hex(16)
        self.certificates()
        (self.pki / 'tokens.csv').write_text(f'{self.token},admin,u1,"system:masters"\n' + self.tokens)
        self.kubeconfig = self.write_kubeconfig('admin', self.token)

    def certificates(self):
        openssl, pki = '/usr/bin/openssl', self.pki
        for name in ('ca', 'api', 'sa'):
            peers.run(pki, openssl, 'genrsa', '-out', f'{name}.key', '2048')
        peers.run(pki, openssl, 'req', '-x509', '-new', '-key', 'ca.key', '-subj', '/CN=ca of a test', '-days', '2', '-out', 'ca.crt')
        peers.run(pki, openssl, 'req', '-new', '-key', 'api.key', '-subj', '/CN=kube-apiserver', '-out', 'api.csr')
        (pki / 'api.ext').write_text(f'subjectAltName={self.names}\nextendedKeyUsage=serverAuth,clientAuth\n')
        peers.run(pki, openssl, 'x509', '-req', '-in', 'api.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-out', 'api.crt', '-extfile', 'api.ext')
        peers.run(pki, openssl, 'rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub')

    def write_kubeconfig(self, user, token):
        path = self.folder / f'{user}.kubeconfig'
        path.write_text(json.dumps({
            'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'c', 'clusters': [{'name': 'c', 'cluster': {'server': f'https://{self.address}:{self.port}', 'certificate-authority': str(self.pki / 'ca.crt')}}],
            'users': [{'name': user, 'user': {'token': token}}], 'contexts': [{'name': 'c', 'context': {'cluster': 'c', 'user': user}}]}))
        path.chmod(0o600)
        return path

    def launch(self, name, *options):
        program = peers.PEERS / name if (peers.PEERS / name).exists() else name
        with open(self.folder / f'{name}.log', 'ab') as log:
            self.children[name] = subprocess.Popen([*self.within, program, *map(str, options)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=peers.ENVIRONMENT, cwd=self.folder)

    def start(self):
        client, peer = f'http://127.0.0.1:{self.etcd_port}', f'http://127.0.0.1:{self.peer_port}'
        self.launch('etcd', '--name', 't', '--data-dir', self.folder / 'etcd', '--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer,
                    '--initial-advertise-peer-urls', peer, '--initial-cluster', f't={peer}', '--unsafe-no-fsync')
        self.start_api()
        return self

    def start_api(self):
        pki, self.starts = self.pki, self.starts + 1
        self.launch('kube-apiserver', '--etcd-servers', f'http://127.0.0.1:{self.etcd_port}', '--bind-address', self.bind, '--advertise-address', self.address, '--secure-port', self.port,
                    '--endpoint-reconciler-type', 'none', '--service-cluster-ip-range', '10.0.0.0/24', '--allow-privileged', '--tls-cert-file', pki / 'api.crt', '--tls-private-key-file', pki / 'api.key',
                    '--client-ca-file', pki / 'ca.crt', '--token-auth-file', pki / 'tokens.csv', '--service-account-key-file', pki / 'sa.pub', '--service-account-signing-key-file', pki / 'sa.key',
                    '--service-account-issuer', 'https://kubernetes.default.svc', '--api-audiences', 'https://kubernetes.default.svc', '--authorization-mode', 'Node,RBAC',
                    *self.options)
        end = time.monotonic() + 180
        while not self.is_ready():
            assert self.children['kube-apiserver'].poll() is None and time.monotonic() < end, (self.folder / 'kube-apiserver.log').read_text()[-3000:]
            time.sleep(0.2)

    def is_ready(self):
        try:
            context = ssl.create_default_context(cafile=str(self.pki / 'ca.crt'))
            with urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)).open(f'https://127.0.0.1:{self.port}/readyz', timeout=2) as answer:
                return answer.read() == b'ok'
        except OSError:
            return False

    def compact(self):
        """etcd forgets every version but the last: its JSON gateway's word for `etcdctl compact`."""
        def ask(path, **body):
            request = urllib.request.Request(f'http://127.0.0.1:{self.etcd_port}/v3/kv/{path}', json.dumps(body).encode(), {'Content-Type': 'application/json'})
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return json.loads(answer.read())
        ask('compaction', revision=ask('range', key='AA==', limit='1')['header']['revision'], physical=True)

    def stop(self, *names):
        for name in names or ('kube-apiserver', 'etcd'):
            child = self.children.pop(name, None)
            if child is None:
                continue
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def kubectl(self, *words, stdin=None, good=True, user=None):
        ran = subprocess.run([*self.within, peers.PEERS / 'kubectl', '--kubeconfig', user or self.kubeconfig, *map(str, words)], input=stdin, capture_output=True, text=True, check=False, timeout=120,
                             env={**peers.ENVIRONMENT, 'HOME': str(self.folder)})
        assert not good or ran.returncode == 0, (words, ran.stdout[-2000:], ran.stderr[-2000:])
        return ran if not good else ran.stdout

    def apply(self, *objects, **how):
        return self.kubectl('apply', '--validate=strict', '-f', '-', stdin='\n---\n'.join(json.dumps(one) for one in objects), **how)

    def get(self, *words):
        return json.loads(self.kubectl('get', *words, '-o', 'json'))
