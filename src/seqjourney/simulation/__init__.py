"""A multi-channel subscription shop whose customers follow a documented hidden process.

`simulate_shop` returns an event log with the columns of a real one, and the truth behind it;
`write_shop` puts both on disk. Read `traits` (who a customer is), `process` (the formulas of what
happens each day), `event_log` (how that shows as events) and `shop` (the tables and files), in
this order.
"""

from seqjourney.simulation.config import ShopConfig
from seqjourney.simulation.shop import simulate_shop, write_shop

__all__ = ["ShopConfig", "simulate_shop", "write_shop"]
