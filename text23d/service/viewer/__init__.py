"""The viewer: a page in the browser that shows one run, finished or on its way, and steers it."""
