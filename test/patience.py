"""How long tests wait for what other threads and processes do."""

# Seconds for anything that does not depend on time: many times what it takes, for a machine may be
# busy with other tests. A test that passes does not wait so long.
PATIENCE_S = 120.0
