"""A web page to look at a hub that is served: plain HTML, a little JavaScript, and JSON to read."""
