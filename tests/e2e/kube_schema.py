"""kube_schema: the fields of the Kubernetes objects in tools/kubernetes, and their types, as the API has them. What is not here is a mistake, or has to be written here first.

A dict: fields, `!` = required, `*` = any name. A list: a list of that. A type or a regular expression: a value. A function: the value is checked by it.
"""
import re

TEXT, TRUTH, NUMBER = str, bool, int
NAME = re.compile(r'[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?')
LABEL_VALUE = re.compile(r'([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?')
PATH = re.compile(r'/([^/]+/)*[^/]+')
QUANTITY = re.compile(r'[0-9]+(m|k|M|G|Ki|Mi|Gi)?')
LABELS = {'*': LABEL_VALUE}
META = {'name!': NAME, 'namespace': re.compile(r'[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'), 'labels': LABELS, 'annotations': {'*': TEXT}}
KEYS = {'matchLabels!': LABELS}
PORT_NAME = re.compile(r'[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?')
PROBE = {'httpGet!': {'path!': PATH, 'port!': PORT_NAME}, 'periodSeconds': NUMBER, 'timeoutSeconds': NUMBER, 'failureThreshold': NUMBER, 'initialDelaySeconds': NUMBER}
SECCOMP = {'type!': re.compile('RuntimeDefault')}
CONTAINER = {
    'name!': NAME, 'image!': TEXT, 'imagePullPolicy': re.compile('Always|IfNotPresent|Never'), 'command': [TEXT], 'args': [TEXT],
    'env': [{'name!': re.compile('[A-Z_]+'), 'value': TEXT, 'valueFrom': {'fieldRef!': {'fieldPath!': re.compile(r'spec\.nodeName|metadata\.namespace')}}}],
    'ports': [{'name!': PORT_NAME, 'containerPort!': NUMBER, 'protocol': re.compile('TCP|UDP')}],
    'securityContext!': {'runAsNonRoot': TRUTH, 'runAsUser': NUMBER, 'runAsGroup': NUMBER, 'allowPrivilegeEscalation!': TRUTH, 'readOnlyRootFilesystem!': TRUTH,
                         'capabilities!': {'drop!': [re.compile('ALL')], 'add': [re.compile('[A-Z_]+')]}, 'seccompProfile': SECCOMP},
    'startupProbe': PROBE, 'readinessProbe': PROBE, 'livenessProbe': PROBE,
    'resources!': {'requests!': {'cpu!': QUANTITY, 'memory!': QUANTITY}, 'limits!': {'memory!': QUANTITY, 'cpu': QUANTITY}},
    'volumeMounts': [{'name!': NAME, 'mountPath!': PATH, 'readOnly': TRUTH, 'subPathExpr': TEXT}],
}
POD = {
    'serviceAccountName': NAME, 'automountServiceAccountToken': TRUTH, 'priorityClassName': re.compile('system-node-critical'), 'nodeSelector': LABELS, 'tolerations': [{'operator!': re.compile('Exists')}],
    'terminationGracePeriodSeconds': NUMBER, 'enableServiceLinks': TRUTH, 'hostPID': TRUTH, 'restartPolicy': re.compile('Never'),
    'securityContext': {'runAsNonRoot': TRUTH, 'runAsUser': NUMBER, 'runAsGroup': NUMBER, 'seccompProfile!': SECCOMP},
    'initContainers': [CONTAINER], 'containers': [CONTAINER],
    'volumes': [{'name!': NAME, 'configMap': {'name!': NAME}, 'hostPath': {'path!': PATH, 'type!': re.compile('DirectoryOrCreate|Directory')},
                 'emptyDir': {'medium': re.compile('Memory'), 'sizeLimit': QUANTITY}}],
}
RULE = {'apiGroups!': [TEXT], 'resources!': [re.compile('[a-z]+')], 'resourceNames': [NAME], 'verbs!': [re.compile('get|list|watch|create|patch')]}
ROLE_REF = {'apiGroup!': re.compile(r'rbac\.authorization\.k8s\.io'), 'kind!': re.compile('ClusterRole|Role'), 'name!': NAME}
SUBJECT = {'kind!': re.compile('ServiceAccount'), 'name!': NAME, 'namespace!': NAME}
GENERATOR = {'name!': NAME, 'namespace!': NAME, 'behavior': re.compile('replace'), 'files!': [TEXT], 'options': {'labels': LABELS}}
WHOLE_POD = {'metadata!': META, 'spec!': {**POD, 'containers!': [CONTAINER]}}

KINDS = {
    ('v1', 'Namespace'): {'metadata!': META},
    ('v1', 'ServiceAccount'): {'metadata!': META},
    ('v1', 'Secret'): {'metadata!': META, 'type!': re.compile(r'kubernetes\.io/dockerconfigjson'), 'stringData!': {'.dockerconfigjson!': TEXT}},
    ('v1', 'Pod'): WHOLE_POD,
    ('v1', 'Service'): {'metadata!': META, 'spec!': {'clusterIP': re.compile('None'), 'selector!': LABELS, 'ports!': [{'name!': PORT_NAME, 'port!': NUMBER, 'targetPort!': PORT_NAME, 'protocol': re.compile('TCP')}]}},
    ('apps/v1', 'DaemonSet'): {'metadata!': META, 'spec!': {
        'selector': KEYS, 'updateStrategy': {'type!': re.compile('RollingUpdate'), 'rollingUpdate!': {'maxSurge!': NUMBER, 'maxUnavailable!': re.compile('[0-9]+%')}}, 'minReadySeconds': NUMBER,
        'revisionHistoryLimit': NUMBER, 'template!': {'metadata': {'labels!': LABELS}, 'spec!': POD}}},
    ('rbac.authorization.k8s.io/v1', 'ClusterRole'): {'metadata!': META, 'rules!': [RULE]},
    ('rbac.authorization.k8s.io/v1', 'Role'): {'metadata!': META, 'rules!': [RULE]},
    ('rbac.authorization.k8s.io/v1', 'ClusterRoleBinding'): {'metadata!': META, 'roleRef!': ROLE_REF, 'subjects!': [SUBJECT]},
    ('rbac.authorization.k8s.io/v1', 'RoleBinding'): {'metadata!': META, 'roleRef!': ROLE_REF, 'subjects!': [SUBJECT]},
    ('monitoring.coreos.com/v1', 'PodMonitor'): {'metadata!': META, 'spec!': {'selector!': KEYS, 'podMetricsEndpoints!': [
        {'port!': PORT_NAME, 'path!': PATH, 'interval!': re.compile('[0-9]+s'), 'relabelings': [{'sourceLabels!': [TEXT], 'targetLabel!': TEXT}]}]}},
    ('extensions.istio.io/v1alpha1', 'WasmPlugin'): {'metadata!': META, 'spec!': {
        'selector!': KEYS, 'url!': TEXT, 'imagePullSecret': NAME, 'phase': re.compile('AUTHN|AUTHZ|STATS'), 'pluginConfig': lambda value: isinstance(value, dict)}},
    ('kustomize.config.k8s.io/v1beta1', 'Kustomization'): {'resources!': [TEXT], 'configMapGenerator': [GENERATOR], 'patches': [{'path!': TEXT}]},
    ('kustomize.config.k8s.io/v1alpha1', 'Component'): {'resources!': [TEXT]},
}


def check(value, shape, place=''):
    """What is wrong, one text each."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f'{place}: no map']
        known = {name.rstrip('!'): kind for name, kind in shape.items()}
        wrong = [f'{place}.{name}: missing' for name in shape if name.endswith('!') and name[:-1] not in value]
        for name, item in value.items():
            kind = known.get(name, known.get('*'))
            wrong += [f'{place}.{name}: no such field'] if kind is None else check(item, kind, f'{place}.{name}')
        return wrong
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [f'{place}: no list, or an empty one']
        return [text for at, item in enumerate(value) for text in check(item, shape[0], f'{place}[{at}]')]
    if isinstance(shape, re.Pattern):
        return [] if isinstance(value, str) and shape.fullmatch(value) else [f'{place}: {value!r} is not like {shape.pattern}']
    if isinstance(shape, type):
        return [] if type(value) is shape else [f'{place}: {value!r} is no {shape.__name__}']
    return [] if shape(value) else [f'{place}: {value!r}']


def check_object(one):
    shape = KINDS.get((one.get('apiVersion'), one.get('kind')))
    if shape is None:
        return [f'{one.get("apiVersion")} {one.get("kind")}: no such kind']
    return check({name: value for name, value in one.items() if name not in ('apiVersion', 'kind')}, shape, one['kind'])
