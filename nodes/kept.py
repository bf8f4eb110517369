"""Routes for the interface's menu that tell how much space kept trainings take, and remove them."""

from aiohttp import web
from server import PromptServer

from ..setandseq_core.errors import shown
from ..setandseq_core.training.kept import empty_kept, kept_bytes
from .folders import training_folder
from .panel import RECORDS

ROUTE = "/setandseq/kept"


def register_kept() -> None:
    """Answer `GET /setandseq/kept` with the size in bytes, and remove kept trainings on `DELETE`."""
    routes = PromptServer.instance.routes

    @routes.get(ROUTE)
    async def kept(_: web.Request) -> web.Response:
        return web.json_response({"bytes": kept_bytes(training_folder()), "folder": shown(str(training_folder()))})

    @routes.delete(ROUTE)
    async def remove(_: web.Request) -> web.Response:
        if RECORDS.any_trains():
            raise web.HTTPConflict(text="A node is training. Wait for its end, or stop it first.")
        return web.json_response({"bytes": empty_kept(training_folder())})
