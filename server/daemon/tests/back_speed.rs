//! How many messages a second the queue takes and delivers; run by hand, with `--ignored`.

mod back;

use std::time::Instant;

use back::Back;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test: cargo test --release -p vmaild --test back_speed -- --ignored --nocapture"]
async fn messages_a_second() {
    let back = std::sync::Arc::new(Back::start("maillog_file =").await);
    let message = format!(
        "Subject: speed\r\n\r\n{}\r\n",
        "a line of text\r\n".repeat(150)
    );
    let (clients, each) = (50, 200);
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (back, message) = (back.clone(), message.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                back.send("probe@ext.example", &["sender@mydomain.com"], &message)
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let taken = start.elapsed();
    while !back.queued().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let delivered = start.elapsed();
    let count = f64::from(clients * each);
    println!(
        "{:.0} messages/s taken, {:.0} messages/s taken and delivered",
        count / taken.as_secs_f64(),
        count / delivered.as_secs_f64()
    );
}
