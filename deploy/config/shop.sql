-- The demo's sample shop, and the accounts of Canal, of a sync service that reads the binlog itself, and of the nodes. Safe to run again.
CREATE USER IF NOT EXISTS 'canal'@'%' IDENTIFIED BY 'canal';
GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'canal'@'%';
CREATE USER IF NOT EXISTS 'replica'@'%' IDENTIFIED BY 'replica';
GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'replica'@'%';
CREATE USER IF NOT EXISTS 'freshline'@'%' IDENTIFIED BY 'freshline';
CREATE DATABASE IF NOT EXISTS shop;
GRANT SELECT ON shop.* TO 'freshline'@'%';
USE shop;
CREATE TABLE IF NOT EXISTS users (
    id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(100) NOT NULL, email VARCHAR(200) NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id BIGINT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, total DECIMAL(10,2) NOT NULL, KEY (user_id, id));
CREATE TABLE IF NOT EXISTS products (
    id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(100) NOT NULL, price DECIMAL(10,2) NOT NULL, stock INT NOT NULL);
CREATE TABLE IF NOT EXISTS order_items (
    id BIGINT UNSIGNED PRIMARY KEY, order_id BIGINT UNSIGNED NOT NULL, product_id BIGINT UNSIGNED NOT NULL, qty INT NOT NULL, KEY (order_id));
-- Reviews of products with an even id, and with an odd one.
CREATE TABLE IF NOT EXISTS reviews_0 (
    id BIGINT UNSIGNED PRIMARY KEY, product_id BIGINT UNSIGNED NOT NULL, user_id BIGINT UNSIGNED NOT NULL, stars INT NOT NULL,
    body TEXT NOT NULL, created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, KEY (product_id));
CREATE TABLE IF NOT EXISTS reviews_1 LIKE reviews_0;
INSERT IGNORE INTO users VALUES (1, 'Ada', 'ada@example.com'), (2, 'Ben', 'ben@example.com'), (42, 'Dora', 'dora@example.com');
INSERT IGNORE INTO products VALUES (1, 'Tea', 4.50, 100), (2, 'Cup', 12.00, 40);
INSERT IGNORE INTO orders VALUES (100, 42, 21.00), (101, 42, 4.50), (102, 1, 12.00);
INSERT IGNORE INTO order_items VALUES (1, 100, 1, 2), (2, 100, 2, 1), (3, 101, 1, 1), (4, 102, 2, 1);
INSERT IGNORE INTO reviews_0 VALUES (1, 2, 42, 4, 'Keeps warm for an hour.', '2026-11-02 10:00:00');
INSERT IGNORE INTO reviews_1 VALUES (1, 1, 42, 5, 'The one I drink every day.', '2026-11-03 10:00:00'), (2, 1, 1, 3, 'A little strong.', '2026-11-04 18:30:00');
