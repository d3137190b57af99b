"""The small world of the fuzz, made once for every test process."""

import pytest

from tests.soak.outcome import own_place
from tests.soak.world import World, build_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("soak")
    world = World(folder / "world")
    with own_place(world, folder):
        build_world(world.folder)
    return world
