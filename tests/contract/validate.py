"""validate.py SCHEMA < LINES: validates each line of JSON. Status 1 if a line doesn't match."""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
errors = 0
for number, line in enumerate(sys.stdin, 1):
    for error in validator.iter_errors(json.loads(line)):
        errors += 1
        print(f"line {number}: {error.json_path}: {error.message}")
print(f"{number} lines, {errors} errors")
sys.exit(1 if errors else 0)
