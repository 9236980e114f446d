"""e2e_plugins: manifests as Python objects, a folder of them under a daemon, and chains as lists."""
import base64
import json
import os
import time
import urllib.parse

import yaml

from e2e_daemon import await_true


def plugin(name, namespace='team-a', kind='WasmPlugin', **spec):
    return {'apiVersion': 'extensions.istio.io/v1alpha1', 'kind': kind, 'metadata': {'name': name, 'namespace': namespace}, 'spec': spec}


def pod(name, namespace='team-a', **labels):
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'namespace': namespace, 'uid': f'uid-of-{name}', 'labels': labels},
            'spec': {'serviceAccountName': 'runner', 'containers': [{'name': 'a', 'image': 'b'}]}}


def secret(name, config, namespace='team-a', plain=False, **more):
    text = config if isinstance(config, str) else json.dumps(config)
    data = {'stringData': {'.dockerconfigjson': text}} if plain else {'data': {'.dockerconfigjson': base64.b64encode(text.encode()).decode()}}
    return {'apiVersion': 'v1', 'kind': 'Secret', 'type': 'kubernetes.io/dockerconfigjson', 'metadata': {'name': name, 'namespace': namespace}, **data, **more}


class Folder:
    def __init__(self, daemon):
        self.daemon, self.read_by = daemon, None
        self.path = os.path.join(daemon.folder, 'manifests')
        os.makedirs(self.path, exist_ok=True)
        daemon.configure(manifests=self.path)

    def put(self, name, *objects, text=None):
        """As a careful person does it: written beside, then renamed."""
        text = yaml.safe_dump_all(objects) if text is None else text
        hidden = os.path.join(self.path, '.' + name + '.new')
        with open(hidden, 'w', encoding='utf-8') as stream:
            stream.write(text)
        os.rename(hidden, os.path.join(self.path, name))

    def remove(self, name):
        os.unlink(os.path.join(self.path, name))

    # ---- what the daemon says ----
    def ask(self, to='trusted', headers=None, timeout=60, **query):
        return self.daemon.ask('GET', target('/v1/plugins', **query), to=to, headers=headers, timeout=timeout)

    def chain(self, to='trusted', **query):
        query = {'namespace': 'team-a', **query} if to != 'team' else query
        answer = self.ask(to, **query)
        # A daemon that has just started says 503 until it has read the folder once, and never again after that.
        for _ in range(200 if self.read_by != self.daemon.process.pid else 0):
            if answer.status != 503:
                break
            time.sleep(0.1)
            answer = self.ask(to, **query)
        self.read_by = self.daemon.process.pid
        assert answer.status == 200, (answer, self.daemon.told()[-3000:])
        return answer.json['plugins']

    def names(self, **query):
        return [entry['name'] for entry in self.chain(**query)]

    def entry(self, name, **query):
        return next((entry for entry in self.chain(**query) if entry['name'] == name), None)

    def await_state(self, name, state, seconds=20, **query):
        def look():
            entry = self.entry(name, **query)
            return entry if entry and entry['state'] == state else None
        try:
            return await_true(look, seconds, f'{name} {state}')
        except AssertionError as problem:
            raise AssertionError(f'{problem}: {self.entry(name, **query)} {self.daemon.told()[-3000:]}') from None

    def resources(self, **query):
        answer = self.daemon.ask('GET', target('/v1/resources', **query), to='admin')
        assert answer.status == 200, answer
        return answer.json['resources']

    def row(self, name, source=None):
        return next((row for row in self.resources(limit=1000) if row['name'] == name and source in (None, row['source'])), None)

    def await_row(self, name, state, seconds=20, source=None):
        def look():
            row = self.row(name, source)
            return row if row and row['state'] == state else None
        return await_true(look, seconds, f'{name} {state}')


def target(path, **query):
    """label=['a=b', 'c=d'] is given twice."""
    pairs = [(key, value) for key, values in query.items() for value in (values if isinstance(values, list) else [values])]
    return path + ('?' + urllib.parse.urlencode(pairs) if pairs else '')


def events(daemon, kind):
    return [event for event in map(json.loads, daemon.ask('GET', '/v1/events', to='admin').body.decode().splitlines()) if event['type'] == kind]
