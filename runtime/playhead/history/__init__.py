"""History: what is in the entity topics and in topic `run`, in a database that can be thrown away and rebuilt."""
