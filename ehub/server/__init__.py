"""A hub behind gRPC, for other processes and machines: `ehub serve`. Needs `ehub[server]`."""
