"""RAMBO behind the interfaces of other active-learning libraries, which are imported only where they are asked for."""
