"""Jobs over HTTP: a queue in a database, workers that make the runs, an interface and a page."""
