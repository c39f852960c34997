"""The claims ledger: every checkable statement of the five documents, its experiment, its verdict."""
