# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the registrar: `python main.py --node NAME --etcd URL --router haproxy`."""

from __future__ import annotations

import sys

import collection
from aiohttp import web
from api import Api
from registrar import Registrar
from serving import EXIT_ARGUMENTS, EXIT_UNUSABLE, BadSettings, log, run
from settings import Settings, parser, settings_of

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import (
    forget_node,
)

LISTEN = "127.0.0.1:8500"


def build(settings: Settings, made: list[Registrar]) -> web.Application:
    """The application; to be called inside the event loop."""
    log(f"drives {settings.kind} by the collection in {collection.ROOT}")
    app = web.Application()
    registrar = Registrar(settings)
    made.append(registrar)
    app.cleanup_ctx.append(registrar.life)
    Api(registrar).add_to(app)
    return app


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        given = parser(LISTEN).parse_args(arguments)
        settings = settings_of(given)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return EXIT_ARGUMENTS
    if given.forget:
        try:
            forget_node(settings.store(), settings.keys, given.forget)
        except DeliveryError as error:
            print(error, file=sys.stderr)
            return EXIT_UNUSABLE
        log(f"{given.forget} is forgotten: no deploy waits for it")
        return 0
    ready = ["--ready-file", str(given.ready_file)] if given.ready_file else []
    made: list[Registrar] = []
    listen = ["--listen", given.listen]
    code = run("Follow a registry.", LISTEN, lambda: build(settings, made), [*listen, *ready])
    return EXIT_UNUSABLE if any(registrar.failed for registrar in made) else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
