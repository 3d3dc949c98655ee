"""The HTTP side of the user's apps: plain handlers and mounted ASGI applications beside the v2 API."""
