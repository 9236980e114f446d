"""What the tests on a real Kubernetes API share: the server with Istio's CRDs, what tools/kubernetes makes applied to it, and the example's tenant with a registry that wants the login of its Secret."""
import json
import os
import pathlib
import subprocess
import time

import pytest
import yaml

import kube
import peers
from layouts import oras_variant

FOLDER = peers.SOURCE / 'tools' / 'kubernetes'
ACCOUNT = 'system:serviceaccount:wasmcached-system:wasmcached'
LOGIN = ('puller', 'of-a-test')


@pytest.fixture(scope='session')
def cluster(work):
    one = kube.Cluster(work / 'kube')
    try:
        one.start()
        one.kubectl('apply', '--server-side', '-f', peers.PEERS / 'istio-crds.yaml')
        one.kubectl('wait', '--for=condition=Established', '--timeout=60s', 'crd/wasmplugins.extensions.istio.io', 'crd/trafficextensions.extensions.istio.io')
        yield one
    finally:
        one.stop()


def built(cluster, path):
    return list(yaml.safe_load_all(cluster.kubectl('kustomize', FOLDER / path)))


def await_true(check, what, seconds=60):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f'{what} did not come about in {seconds} s'
        time.sleep(0.1)
    return value


@pytest.fixture(scope='session')
def applied(cluster):
    """The overlay and the example, as the README says. A dry run on the server first; namespaces have to be there for that."""
    for path in ('.', 'overlays/identity-pod', 'example'):
        cluster.apply(*[one for one in built(cluster, path) if one['kind'] == 'Namespace'])
        cluster.apply(*built(cluster, path))
        said = cluster.kubectl('apply', '--dry-run=server', '--validate=strict', '-f', '-', stdin=yaml.safe_dump_all(built(cluster, path)))
        assert said.count('(server dry run)') == len(built(cluster, path)), said
    return cluster


@pytest.fixture
def tenant(applied, modules, tmp_path):
    """The example's plugin at a registry that wants the login of the example's Secret: (plugin, registry)."""
    (tmp_path / 'probe.yaml').write_text('kubernetes: {mode: in-cluster, events: true}\n')
    probed = subprocess.run([peers.BUILD / 'wasmcached', '--check-config', '--config', tmp_path / 'probe.yaml'], capture_output=True, text=True, check=False)
    if probed.returncode:
        pytest.skip(f'this build does not read plugins from the Kubernetes API: {probed.stderr.strip()}')
    folder = tmp_path / 'registry'
    folder.mkdir()
    opened = peers.docker_registry(folder)
    ref = f'{opened.host}/team/authz:v1'
    oras_variant(tmp_path, ref, modules['small'])
    oras_variant(tmp_path, f'{opened.host}/team/authz:v2', modules['small2'])
    opened.stop()
    (folder / 'htpasswd').write_text(subprocess.run(['htpasswd', '-Bbn', '-C', '4', *LOGIN], check=True, capture_output=True, text=True).stdout)
    registry = peers.docker_registry(folder, auth=f'auth: {{htpasswd: {{realm: t, path: "{folder / "htpasswd"}"}}}}\n', port=opened.port)
    secret = {'apiVersion': 'v1', 'kind': 'Secret', 'type': 'kubernetes.io/dockerconfigjson', 'metadata': {'name': 'registry-login', 'namespace': 'team-a'},
              'stringData': {'.dockerconfigjson': json.dumps(peers.docker_config(registry.host, ':'.join(LOGIN)))}}
    plugin = yaml.safe_load((FOLDER / 'example' / 'wasmplugin.yaml').read_text())
    plugin['spec']['url'] = f'oci://{ref}'
    applied.apply(secret, plugin)
    yield plugin, registry
    registry.stop()


def token(cluster):
    return cluster.kubectl('create', 'token', 'wasmcached', '-n', 'wasmcached-system', '--duration', '1h').strip()


# ---- what a scheduler and a kubelet would do
def bound_pod(cluster, pod, node='node-a', container=None):
    """Makes the Pod anew, binds it as a scheduler does, says Running as a kubelet does; its uid."""
    name, namespace = pod['metadata']['name'], pod['metadata']['namespace']
    remove_pod(cluster, name, namespace)
    cluster.kubectl('create', '--validate=strict', '-f', '-', stdin=json.dumps(pod))
    if 'nodeName' not in pod['spec']:
        cluster.kubectl('create', '--raw', f'/api/v1/namespaces/{namespace}/pods/{name}/binding', '-f', '-',
                        stdin=json.dumps({'apiVersion': 'v1', 'kind': 'Binding', 'metadata': {'name': name}, 'target': {'apiVersion': 'v1', 'kind': 'Node', 'name': node}}))
    statuses = [{'name': pod['spec']['containers'][0]['name'], 'image': 'x', 'imageID': 'x', 'ready': True, 'restartCount': 0, 'containerID': f'containerd://{container}'}] if container else []
    cluster.kubectl('patch', 'pod', name, '-n', namespace, '--subresource=status', '--type=merge', '-p', json.dumps({'status': {'phase': 'Running', 'containerStatuses': statuses}}))
    return cluster.get('pod', name, '-n', namespace)['metadata']['uid']


def remove_pod(cluster, name, namespace):
    """As when its kubelet has ended it."""
    cluster.kubectl('delete', 'pod', name, '-n', namespace, '--ignore-not-found', '--grace-period=0', '--force')


def plain_pod(name, namespace, node='node-a', account='default', **labels):
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'namespace': namespace, 'labels': labels},
            'spec': {'nodeName': node, 'serviceAccountName': account, 'automountServiceAccountToken': False, 'containers': [{'name': 'a', 'image': 'none.example/a'}]}}
