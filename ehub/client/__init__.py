"""A hub on a server, as if it were here: `ehub.connect("host:7462")`. Needs `ehub[server]`."""
