"""Services: what shows runs to people, and takes their wishes: readers of snapshots, callers of jobs."""
