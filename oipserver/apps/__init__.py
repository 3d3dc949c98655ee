"""Routes of the user's own beside the v2 API: what a file declares, how it is found, how it reaches models.

Knows neither HTTP nor gRPC: `oipserver.http.custom` and `oipserver.grpc.custom` serve what is declared here.
"""
