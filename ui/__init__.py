"""The page: point, brush, preview and edit in the browser. `serve.serve` starts it; `inlay ui` is its command."""
