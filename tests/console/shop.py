"""Routes of a user's own, for the plain HTTP client of the console."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from oipserver import App, Models

# Were it not sandboxed, it would take the page over.
PAGE = """<h1>An answer in HTML</h1><script>parent.document.title = "taken"</script>
<img src="http://192.0.2.1/spy.png"><a href="javascript:parent.document.title = 'taken'">a link</a>"""

app = App()


@app.get("/greet/{name}")
async def greet(name: str) -> str:
    """Greets."""
    return f"hello {name}"


@app.post("/score")
async def score(body: Any, models: Models) -> dict[str, Any]:
    """The class of each iris."""
    answer = await models.infer("iris", {"input-0": body["rows"]})
    return {"classes": answer["predict"]}


@app.get("/page")
async def page() -> Response:
    """A page."""
    return HTMLResponse(PAGE)


@app.route("/echo", ["PUT", "DELETE"])
async def echo(request: Request) -> dict[str, Any]:
    """What came."""
    return {
        "method": request.method,
        "note": request.headers.get("x-note"),
        "body": (await request.body()).decode(),
    }


async def legacy(request: Request) -> Response:
    return PlainTextResponse(f"legacy {request.url.path}")


app.mount("/legacy", Starlette(routes=[Route("/{rest:path}", legacy)]))
