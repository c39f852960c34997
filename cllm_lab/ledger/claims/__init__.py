"""Every claim, document by document."""

from cllm_lab.ledger.claims import document_000, document_001, document_002, document_003, document_004

CLAIMS = tuple(
    claim
    for document in (document_000, document_001, document_002, document_003, document_004)
    for claim in document.BOOK.claims
)
