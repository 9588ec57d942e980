"""What client and server say to each other: messages, packing, errors. Needs `ehub[server]`."""
