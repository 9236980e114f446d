"""e2e_images: what tests/fake makes of images, pushed to real registries by a small pusher."""
import hashlib
import itertools

from content import sha256, wasm
from world import MODES, Repo
import good  # noqa: F401 (registers the layouts)
import modes_sign  # noqa: F401

numbers = itertools.count(1)


def unique(name='m'):
    """A repository name that no other test uses."""
    return f'e2e/{name}{next(numbers)}'


class Image(Repo):
    """A repository built in memory, then pushed: blobs, manifests in the order of their making, tags."""

    def __init__(self, name):
        super().__init__(name, self)
        self.other_port = 1

    def url(self, path, port=None, scheme='http'):
        return f'{scheme}://127.0.0.1:{port}{path}'

    def push(self, registry, repository=None):
        repository = repository or self.name
        for data in self.blobs.values():
            registry.put_blob(repository, data)
        for digest, (media_type, data) in self.manifests.items():
            registry.put_manifest(repository, digest, data, media_type)
            for tag in (tag for tag, tagged in self.tags.items() if tagged == digest):
                registry.put_manifest(repository, tag, data, media_type)
        return self


def layout(name):
    image = Image(unique('layout'))
    MODES[name].build(image)
    return image


def push(registry, module=None, repository=None, tag='v1'):
    """A raw-wasm image; gives (repository, manifest digest, module)."""
    repository = repository or unique()
    module = module if module is not None else wasm(repository + tag)
    image = Image(repository)
    made = image.raw_image(module, tag=tag)
    image.push(registry)
    return repository, made['digest'], module


def hexes(data):
    return hashlib.sha256(data).hexdigest()


def body_of(path):
    with open(path, 'rb') as stream:
        return stream.read()


__all__ = ['Image', 'MODES', 'body_of', 'hexes', 'layout', 'push', 'sha256', 'unique', 'wasm']
