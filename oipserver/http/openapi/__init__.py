"""OpenAPI 3.1 of what is served: the loaded models with their real tensors, and the routes that there are."""
