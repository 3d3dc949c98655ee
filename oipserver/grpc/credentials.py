"""What grpc-core needs for TLS, from the server's certificates."""

from __future__ import annotations

import grpc

from oipserver.tls import Certificates, Loaded


def credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials that follow `certificates` with each new connection.

    grpc-core knows clients who must show a certificate, and clients who are not asked for one; with
    `optional` they are not asked.
    """
    required = certificates.config.client_auth == "required"
    served = certificates.now

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by grpc-core in each handshake, on a thread of its own; None when nothing has changed."""
        nonlocal served
        newest = certificates.now
        if newest is served:
            return None
        served = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        fetch,  # type: ignore[arg-type]  # the stubs know no None
        required,
    )


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.cert)], loaded.client_ca)
