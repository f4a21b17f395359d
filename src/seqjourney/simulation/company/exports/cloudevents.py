"""CloudEvents, one JSON object per line: the help desk's tickets.

After the CloudEvents specification 1.0, with its documented extension `recordedtime` for when the
help desk noted it. `subject` is the user id where the desk knows it.
"""

ENDING = "jsonl"
FILES = 1

QUERIES = {
    "support": """
    select lean({
        'specversion': '1.0',
        'id': event_uuid,
        'source': '/helpdesk/eu',
        'type': name,
        'subject': user_id,
        'time': iso(time_us),
        'recordedtime': iso(known_us),
        'datacontenttype': 'application/json',
        'data': {'ticket_id': 't' || ticket, 'requester': {'email': email},
            'waiting_hours': waiting_hours}
    }) as line
    from traces where source = 'support' order by position"""
}
