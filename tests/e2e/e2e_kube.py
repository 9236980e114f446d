"""e2e_kube: tests/fake/kubeapi.py as the API server of a daemon, and objects as kubectl would apply them."""
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request

import yaml

from e2e_daemon import SOURCE, free_port
from e2e_plugins import Folder

EXTENSIONS = '/apis/extensions.istio.io/v1alpha1/'
PATHS = {'WasmPlugin': EXTENSIONS + 'wasmplugins', 'TrafficExtension': EXTENSIONS + 'trafficextensions', 'Secret': '/api/v1/secrets', 'Pod': '/api/v1/pods'}
EVENTS = '/apis/events.k8s.io/v1/events'


class Kube:
    """The server keeps its port over stop() and start(), not its objects."""

    def __init__(self):
        self.port = free_port()
        self.process = None

    def start(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(SOURCE, 'tests', 'fake', 'kubeapi.py'), '--port', str(self.port), '--until-eof'], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline().split()[:2] == [b'ready', str(self.port).encode()]
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None

    def steer(self, action, **query):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/_{action}?' + urllib.parse.urlencode(query), timeout=30) as answer:
            return json.loads(answer.read())

    def apply(self, *objects, **more):
        for thing in objects:
            self.steer('put', path=PATHS[thing['kind']], json=json.dumps(thing), **more)

    def delete(self, thing):
        self.steer('delete', path=PATHS[thing['kind']], namespace=thing['metadata']['namespace'], name=thing['metadata']['name'])

    def fault(self, match, do, count=1000000, **more):
        self.steer('fault', match=match, do=do, count=count, **more)

    def log(self, match=''):
        return [entry for entry in self.steer('log') if match in f"{entry['method']} {entry['target']}"]

    def events(self):
        """What was written, as (reason, note)."""
        return [(body['reason'], body['note'], body['regarding']['name']) for entry in self.log('POST /apis/events.k8s.io/') for body in [json.loads(entry['body'])]]


def in_cluster(daemon, kube, **options):
    """A daemon's configuration for that server; returns what asks it, as over a folder of manifests that stays empty."""
    path = os.path.join(daemon.folder, 'kubeconfig')
    with open(path, 'w', encoding='utf-8') as stream:
        yaml.safe_dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'c', 'contexts': [{'name': 'c', 'context': {'cluster': 'k', 'user': 'u'}}],
                        'clusters': [{'name': 'k', 'cluster': {'server': f'http://127.0.0.1:{kube.port}'}}], 'users': [{'name': 'u', 'user': {'token': 'of-a-test'}}]}, stream)
    daemon.configure(kubernetes={'mode': 'kubeconfig', 'kubeconfig': path, **options})
    return Folder(daemon)
