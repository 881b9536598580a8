"""setuptools, with its list of what else a source distribution has here: it reads MANIFEST.in at the top level only."""

from setuptools.build_meta import *  # noqa: F403
from setuptools.command.egg_info import manifest_maker

manifest_maker.template = ".ci/MANIFEST.in"
