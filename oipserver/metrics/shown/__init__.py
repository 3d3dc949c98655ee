"""What a scrape shows: the numbers of one moment, as Prometheus' client library wants and writes them.

Rule: nothing here is imported before somebody looks, and never on the event loop.  The library brings an HTTP
server and a client of its own: a megabyte, and milliseconds, that a server without a scraper does not pay.
"""
