UPDATE store_meta SET number = $1 WHERE name = 'epoch'
