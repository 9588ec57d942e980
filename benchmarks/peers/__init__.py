"""Programs that run peers of the server, each with the Python that its package is installed in."""
