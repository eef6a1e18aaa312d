"""The page: point, brush, preview and edit in the browser. `serve.page` makes it; `inlay ui` is its command."""
