//! Canal messages such as a shop's order table makes: about 900 bytes, one row of twelve columns, type maps and all.

use std::fmt::Write as _;

/// Orders that are changed again and again.
const ORDERS: u64 = 200_000;
/// Customers that the orders belong to.
const CUSTOMERS: u64 = 50_000;
/// When the changes happened: 2026-11-20 00:00:00 UTC, in milliseconds.
const BEGIN: u64 = 1_795_132_800_000;

/// The order that the change `number` is of.
pub(crate) fn order_of(number: u64) -> u64 {
    scatter(number) % ORDERS + 1
}

/// The customer of an order.
fn customer_of(order: u64) -> u64 {
    scatter(order) % CUSTOMERS + 1
}

/// The message of the change `number`: an UPDATE of an order's status and note. Written into `text`, which is emptied first.
pub(crate) fn write(number: u64, text: &mut String) {
    let order = order_of(number);
    let customer = customer_of(order);
    let status = number % 7;
    let written = BEGIN + number;
    let executed = written / 1000 * 1000;
    let (minute, second, fraction) = (number / 60_000_000 % 60, number / 1_000_000 % 60, number % 1_000_000);
    text.clear();
    let _ = write!(
        text,
        concat!(
            r#"{{"data":[{{"id":"{order}","customer_id":"{customer}","status":"{status}","currency":"EUR","total":"{total}.{cents:02}","#,
            r#""items":"{items}","street":"{house} Harbour \"Row\"","city":"Reykjavík","country":"IS","note":"change {number} of this order","#,
            r#""created_at":"2026-11-01 09:30:00.250","updated_at":"2026-11-20 00:{minute:02}:{second:02}.{fraction:06}"}}],"#,
            r#""database":"shop","es":{executed},"gtid":"","id":{batch},"isDdl":false,"#,
            r#""mysqlType":{{"id":"bigint unsigned","customer_id":"bigint unsigned","status":"tinyint unsigned","currency":"char(3)","#,
            r#""total":"decimal(12,2)","items":"int","street":"varchar(80)","city":"varchar(40)","country":"char(2)","note":"varchar(200)","#,
            r#""created_at":"datetime(3)","updated_at":"timestamp(6)"}},"#,
            r#""old":[{{"status":"{before}","note":"change before","updated_at":"2026-11-19 00:00:00.000000"}}],"pkNames":["id"],"sql":"","#,
            r#""sqlType":{{"id":-5,"customer_id":-5,"status":-6,"currency":1,"total":3,"items":4,"street":12,"city":12,"country":1,"#,
            r#""note":12,"created_at":93,"updated_at":93}},"table":"orders","ts":{written},"type":"UPDATE"}}"#,
        ),
        order = order,
        customer = customer,
        status = status,
        total = 10 + number % 990,
        cents = number % 100,
        items = 1 + number % 9,
        house = 1 + order % 200,
        number = number,
        minute = minute,
        second = second,
        fraction = fraction,
        executed = executed,
        batch = number / 50 + 1,
        before = (status + 6) % 7,
        written = written,
    );
}

/// Spreads numbers evenly, the same in every run (the finalizer of `SplitMix64`).
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_canal_would_write() {
        let mut text = String::new();
        for number in [0, 1, 299_999] {
            write(number, &mut text);
            assert!((850..=1150).contains(&text.len()), "{} bytes", text.len());
            let message: serde_json::Value = serde_json::from_str(&text).expect("the message is JSON");
            let row = message["data"][0].as_object().expect("a row");
            assert_eq!(row.len(), 12);
            assert_eq!(row["id"], order_of(number).to_string());
            for types in ["mysqlType", "sqlType"] {
                assert!(row.keys().eq(message[types].as_object().expect("types").keys()), "{types}");
            }
        }
    }
}
