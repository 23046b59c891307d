"""Reports: what the store's scores say. They only read; nothing here asks a model or a judge."""
