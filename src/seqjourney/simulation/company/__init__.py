"""A company whose customers are scattered over many tools, with the truth about them.

`write_company` takes the events of the simulated shop and writes them as the exports of twelve
sources in the shapes of their vendors, with changing ids, shared devices, renamed events, copies,
wrong clocks and consent; `truth/` says what really happened. Read `people` and `browsers` (who is
who), `trace` (what each tool records), `exports` (how it looks), `truth` and `write`.
"""

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.write import write_company

__all__ = ["CompanyConfig", "write_company"]
