"""Exec credential providers of the kubelet against a registry behind a password."""
import json
import os
import threading
import time

import pytest
import yaml

from conftest import PASSWORD
from e2e_daemon import await_true
from e2e_images import body_of, push
from e2e_servers import docker_config

API = 'credentialprovider.kubelet.k8s.io/v1'


class Providers:
    """A folder of programs and the CredentialProviderConfig that names them."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.bin = os.path.join(self.folder, 'bin')
        self.file = os.path.join(self.folder, 'providers.yaml')
        self.runs = os.path.join(self.folder, 'runs')
        self.list = []
        os.makedirs(self.bin)

    def add(self, name, script, **more):
        path = os.path.join(self.bin, name)
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(f'#!/bin/sh\ncat >> {self.runs}\n{script}\n')
        os.chmod(path, 0o755)
        self.list.append({'name': name, 'apiVersion': API, 'matchImages': ['r.example'], 'defaultCacheDuration': '1h', **more})
        return self.write()

    def answer(self, name, auths, key_type='Registry', **more):
        answer = {'apiVersion': API, 'kind': 'CredentialProviderResponse', 'cacheKeyType': key_type, 'auth': {host: {'username': user, 'password': password} for host, (user, password) in auths.items()}}
        return self.add(name, f"cat <<'EOF'\n{json.dumps(answer)}\nEOF", **more)

    def write(self):
        with open(self.file, 'w', encoding='utf-8') as stream:
            yaml.safe_dump({'apiVersion': 'kubelet.config.k8s.io/v1', 'kind': 'CredentialProviderConfig', 'providers': self.list}, stream)
        return self

    @property
    def config(self):
        return {'provider_config': self.file, 'provider_bin_dir': self.bin}

    def asked(self):
        if not os.path.exists(self.runs):
            return []
        with open(self.runs, encoding='utf-8') as stream:
            return [json.loads(line)['image'] for line in stream]


@pytest.fixture
def providers(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Providers(tmp_path / 'providers')


def any_port(patterns):
    return {'matchImages': patterns}


def test_login_of_a_provider(private, make_daemon, providers):
    repository, _, module = push(private)
    other, _, _ = push(private)
    providers.answer('tool', {private.host: ('puller', PASSWORD)}, **any_port([private.host]))
    daemon = make_daemon(credentials=providers.config)
    assert body_of(daemon.good(private.ref(repository))['path']) == module
    daemon.good(private.ref(repository), to='team')            # a login of the node is for every namespace, like docker_config
    daemon.good(private.ref(other))
    assert providers.asked() == [f'{private.host}/{repository}']      # cached for the registry
    assert PASSWORD not in daemon.told()


def test_not_asked_where_it_is_not_needed(private, registry, make_daemon, providers):
    repository, _, _ = push(private)
    public, _, _ = push(registry)
    providers.answer('tool', {private.host: ('puller', 'wrong')}, **any_port([private.host]))
    daemon = make_daemon(credentials=providers.config)
    daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    daemon.good(private.ref(repository), imagePullSecret='pull')
    daemon.good(registry.ref(public))
    assert providers.asked() == []
    daemon.put_secret('default', 'old', docker_config(**{private.host: ('puller', 'old')}))
    other, _, _ = push(private)
    daemon.bad(private.ref(other), 'unauthorized', imagePullSecret='old')
    assert len(providers.asked()) == 1


def test_after_a_secret_that_is_refused(private, make_daemon, providers):
    repository, _, _ = push(private)
    providers.answer('tool', {private.host: ('puller', PASSWORD)}, **any_port([private.host]))
    daemon = make_daemon(credentials=providers.config)
    daemon.put_secret('default', 'old', docker_config(**{private.host: ('puller', 'old')}))
    daemon.good(private.ref(repository), imagePullSecret='old')


@pytest.mark.parametrize('script, says', [('echo some words >&2; exit 3', 'ended with status 3'), ('echo ' + PASSWORD, 'no JSON object'), ('yes ' + PASSWORD, 'more than 1048576 bytes'), ('kill -9 $$', 'signal 9')])
def test_one_that_fails(private, registry, make_daemon, providers, script, says):
    """It is told behind the registry's refusal; what needs no login, or has another, is not harmed."""
    repository, _, _ = push(private)
    public, _, _ = push(registry)
    daemon = make_daemon(credentials=providers.add('broken', script, **any_port([private.host, registry.host])).config)
    detail = daemon.bad(private.ref(repository), 'unauthorized', 401)
    assert private.host in detail and 'credential provider broken: ' in detail and says in detail and PASSWORD not in detail
    daemon.good(registry.ref(public))
    daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    daemon.good(private.ref(repository), imagePullSecret='pull')
    assert 'credential_provider_failed' in daemon.told() and PASSWORD not in daemon.told()
    # another that answers is taken all the same, after a reload
    other, _, _ = push(private)
    providers.answer('good', {private.host: ('puller', PASSWORD)}, **any_port([private.host]))
    daemon.ctl_good('reload')
    daemon.good(private.ref(other))


def test_one_that_hangs(private, make_daemon, providers):
    repository, _, _ = push(private)
    pids = os.path.join(providers.folder, 'pid')
    daemon = make_daemon(credentials=providers.add('slow', f'echo $$ > {pids}; sleep 1000 & wait', **any_port([private.host])).config, pull={'timeout': '2s'})
    detail = daemon.bad(private.ref(repository), 'timeout')
    assert 'credential provider slow' in detail
    daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    daemon.good(private.ref(repository), imagePullSecret='pull')
    with open(pids, encoding='utf-8') as stream:
        pid = int(stream.read())
    await_true(lambda: not os.path.exists(f'/proc/{pid}'), 10, 'the end of the provider')


def test_stop_does_not_wait_for_one(private, make_daemon, providers):
    repository, _, _ = push(private)
    daemon = make_daemon(credentials=providers.add('slow', 'exec sleep 1000', **any_port([private.host])).config)
    asking = threading.Thread(target=lambda: daemon.get(private.ref(repository)), daemon=True)
    asking.start()
    await_true(lambda: providers.asked(), 20, 'the run of the provider')
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 15
    asking.join(20)


def test_mistake_in_the_configuration(make_daemon, providers):
    providers.answer('tool', {'r.example': ('u', 'p')})
    daemon = make_daemon(credentials=providers.config)
    providers.list[0]['matchimages'] = []
    providers.write()
    ran = daemon.ctl('reload')
    assert ran.returncode == 1 and 'credentials.provider_config' in ran.stderr and 'providers[0].matchimages: unknown field' in ran.stderr and providers.file in ran.stderr
    assert daemon.ask('GET', '/healthz', to='admin').status == 200
    other = make_daemon(start=False, credentials=providers.config)
    other.start(wait=False)
    assert other.process.wait(20) == 2
    other.process = None
    assert 'providers[0].matchimages: unknown field' in other.told()
