"""Statements without a connection: placeholders, rows, `into`, and values that need an encoding."""

from __future__ import annotations

from dbcore.statements.blame import blaming
from dbcore.statements.chunks import chunked
from dbcore.statements.decode import Decoder, decoder
from dbcore.statements.parse import SqlReader, compile_sql, reader, split, transaction_word, words
from dbcore.statements.rows import Row, row_shape
from dbcore.statements.statement import Params, Statement
from dbcore.statements.values import Json, JsonString, encode_duration, encode_json, is_large, plain

__all__ = [
    "Decoder",
    "Json",
    "JsonString",
    "Params",
    "Row",
    "SqlReader",
    "Statement",
    "blaming",
    "chunked",
    "compile_sql",
    "decoder",
    "encode_duration",
    "encode_json",
    "is_large",
    "plain",
    "reader",
    "row_shape",
    "split",
    "transaction_word",
    "words",
]
