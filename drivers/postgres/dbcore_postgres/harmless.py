"""What may stand before a parenthesis in a statement that shares its trip with others."""

from __future__ import annotations

__all__ = ["HARMLESS"]

_NO_CALLS = """
all and any array as between bit by case cast char character cube decimal distinct else except exists filter
float from group having ilike in intersect interval is join lateral like limit materialized not numeric offset
on or over rollup row select sets some then time timestamp union using values varchar varying when where within
"""

_FUNCTIONS = """
array_agg avg bool_and bool_or count cume_dist dense_rank every first_value json_agg json_object_agg jsonb_agg
jsonb_object_agg lag last_value lead max min mode nth_value ntile percent_rank percentile_cont percentile_disc
rank row_number stddev string_agg sum variance
coalesce greatest least nullif num_nonnulls num_nulls pg_typeof
ascii btrim char_length character_length chr concat concat_ws decode encode format initcap left length lower
lpad ltrim md5 octet_length overlay position quote_ident quote_literal regexp_match regexp_matches
regexp_replace regexp_split_to_array regexp_split_to_table repeat replace reverse right rpad rtrim sha256
split_part starts_with string_to_array strpos substr substring to_hex translate trim upper
abs acos asin atan atan2 cbrt ceil ceiling cos degrees div exp floor ln log mod pi power radians round sign sin
sqrt tan trunc width_bucket
age clock_timestamp current_time current_timestamp date_bin date_part date_trunc extract isfinite justify_days
justify_hours justify_interval localtime localtimestamp make_date make_interval make_time make_timestamp
make_timestamptz now statement_timestamp timezone to_char to_date to_number to_timestamp transaction_timestamp
array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions
array_prepend array_remove array_replace array_to_string array_upper cardinality daterange generate_series
generate_subscripts int4range int8range isempty lower_inc numrange tsrange tstzrange unnest upper_inc
json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each
json_each_text json_extract_path json_extract_path_text json_object json_object_keys json_to_record
json_to_recordset json_typeof jsonb_array_elements jsonb_array_elements_text jsonb_array_length
jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_path_query_array jsonb_path_query_first
jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json
to_jsonb
gen_random_uuid phraseto_tsquery plainto_tsquery to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd
websearch_to_tsquery
"""

HARMLESS = frozenset(f"{_NO_CALLS} {_FUNCTIONS}".upper().split())
"""Words that call nothing, and functions of Postgres that only compute.

Of any other function nobody knows what it does, or that it may be done twice: a statement that takes its time in a trip
is stopped, and sent once more.
"""
