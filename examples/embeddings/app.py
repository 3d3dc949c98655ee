"""`/embed` and `/batch_embed`: texts in, vectors out, by way of the same scheduler as the v2 routes."""

from typing import Any

from oipserver import App, InvalidInput, Models

app = App()


@app.post("/embed")
async def embed(body: Any, models: Models) -> dict[str, Any]:
    """{"text": "..."} to {"embedding": [...]}.  Callers at the same time share a call of the model."""
    text = field(body, "text")
    if not isinstance(text, str):
        raise InvalidInput("'text': expected a string")
    return {"embedding": (await vectors([text], models))[0]}


@app.post("/batch_embed")
async def batch_embed(body: Any, models: Models) -> dict[str, Any]:
    """{"texts": ["...", ...]} to {"embeddings": [[...], ...]}, in the same order."""
    texts = field(body, "texts")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidInput("'texts': expected a list of at least one string")
    return {"embeddings": await vectors(texts, models)}


async def vectors(texts: list[str], models: Models) -> Any:
    answer = await models.infer("embedder", {"input-0": [[text] for text in texts]})
    return answer["transform"]


def field(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None
